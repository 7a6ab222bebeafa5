"""Gauges of a project that the leader exports, and those of its labels and state. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.adapter.state.board import ProjectView
from services.core.domain import Served
from services.core.labels.uncounted import ANNOTATION_REASONS, TASK_REASONS

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""Values by the labels besides `project`; None if unknown."""

Read = Callable[[ProjectView, Served], Values]
"""Reads values from a view, and from what is in effect now."""


@dataclass(frozen=True, slots=True)
class ProjectGauge:
    """A gauge with the label `project` and `labels`, each with its possible values; () for any."""

    name: str
    help: str
    values: Read
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    summable: bool = False
    """Whether a sum over projects makes sense."""
    worst: Callable[[float, float], float] | None = None
    """Which of two projects' values is the worse one, `min` or `max`: `other` has the worst of its projects, for alerts."""
    among: Callable[[ProjectView], bool] = lambda _: True
    """Whether a project counts in `other`: where an alert combines several series of a project, one project must meet all."""


def from_view(read: Callable[[ProjectView], float | None]) -> Read:
    """Read one value from the view alone."""
    return lambda view, _: [((), read(view))]


def _once_polled(read: Callable[[ProjectView], float]) -> Read:
    """Read a value, unless Label Studio has not been polled yet."""
    return from_view(lambda view: read(view) if view.checked_at else None)


def _agreement(view: ProjectView) -> float | None:
    found = view.figures.agreement
    return found.agreed / found.annotations if found and found.annotations else None


def _not_counted(reasons: Collection[str]) -> Callable[[ProjectView, Served], Values]:
    """Return only reasons that occur: most of a project's would always be 0."""
    return lambda view, _: [
        ((row.reason,), float(row.count)) for row in view.not_counted if row.reason in reasons
    ]


def is_unpaused(view: ProjectView) -> bool:
    """Return whether the project is meant to learn."""
    return not view.paused


def waits_for_a_run(view: ProjectView) -> bool:
    """Return whether there are labels enough for a run, and none has started."""
    return view.changed >= view.needed and is_unpaused(view) and view.figures.started_at is None


STATE_GAUGES: Final = (
    ProjectGauge(
        "fitloop_project_info",
        "1, labelled with the project's title in Label Studio.",
        lambda view, _: [((view.project.title,), 1.0)],
        {"title": ()},
    ),
    ProjectGauge(
        "fitloop_project_labels_waiting",
        "Labelled tasks added, edited or removed since the last run read the labels.",
        _once_polled(lambda view: view.changed),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_labels_needed",
        "Changed tasks that trigger a run.",
        from_view(lambda view: view.needed),
    ),
    ProjectGauge(
        "fitloop_project_labelled_tasks",
        "Tasks with a label that can be used for training.",
        _once_polled(lambda view: view.labelled),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_oldest_waiting_label_timestamp_seconds",
        "When the oldest waiting label was created or last edited; absent if none waits. `other`: of projects with labels enough "
        "for a run, and none active.",
        from_view(lambda view: view.figures.oldest_waiting_at),
        worst=min,
        among=waits_for_a_run,
    ),
    ProjectGauge(
        "fitloop_project_checked_timestamp_seconds",
        "When Label Studio was last polled for the project successfully; absent before the first time. `other`: the earliest.",
        from_view(lambda view: view.checked_at or None),
        worst=min,
    ),
    ProjectGauge(
        "fitloop_project_paused",
        "1 while training is paused.",
        from_view(lambda view: view.paused),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_pinned",
        "1 while the served version is pinned.",
        from_view(lambda view: view.served.pinned),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_problem",
        "1 while the status page shows a problem of the project. `other`: number of projects with one that are not paused.",
        from_view(lambda view: bool(view.problem)),
        summable=True,
        among=is_unpaused,
    ),
    ProjectGauge(
        "fitloop_project_last_event_timestamp_seconds",
        "When Label Studio last sent an event of the project; absent if none is known.",
        from_view(lambda view: view.figures.last_event_at),
    ),
    ProjectGauge(
        "fitloop_project_stored_bytes",
        "Bytes stored for the project, mostly versions and without runs, as last counted.",
        from_view(lambda view: view.figures.stored_bytes),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_failed_runs",
        "Consecutive failed runs; 0 after one that did not fail. `other`: the most of a project that is not paused.",
        from_view(lambda view: view.figures.failed_in_a_row),
        worst=max,
        among=is_unpaused,
    ),
    ProjectGauge(
        "fitloop_project_held_versions",
        "Consecutive versions that were not promoted since the served one. `other`: the most of a project.",
        from_view(lambda view: view.figures.held_in_a_row),
        worst=max,
    ),
    ProjectGauge(
        "fitloop_project_annotations_not_counted",
        "Annotations that do not count, by reason; reasons that do not occur are absent.",
        _not_counted(ANNOTATION_REASONS),
        {"reason": tuple(ANNOTATION_REASONS)},
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_tasks_not_counted",
        "Labelled tasks that are no example of their own, by reason; reasons that do not occur are absent.",
        _not_counted(TASK_REASONS),
        {"reason": tuple(TASK_REASONS)},
        summable=True,
    ),
    ProjectGauge(
        "fitloop_agreement_ratio",
        "Share of recent annotations (up to 200) that agree with the suggestion. Not an accuracy: annotators tend to "
        "accept suggestions, so it is biased upwards; only a drop is significant.",
        from_view(_agreement),
    ),
    ProjectGauge(
        "fitloop_agreement_annotations",
        "Recent annotations with a suggestion, from which the agreement is computed.",
        from_view(lambda view: view.figures.agreement.annotations if view.figures.agreement else None),
        summable=True,
    ),
)
