"""A gauge of a project, which the leader gives out: name, help, and how it is read from the project's view."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.adapter.state.board import ProjectView
from services.core.domain import Served
from services.core.labels.uncounted import ANNOTATION_REASONS

Values = Iterable[tuple[tuple[str, ...], float | None]]
"""Values by the labels beside the project's; None: there is nothing to say."""

Read = Callable[[ProjectView, Served], Values]
"""From a view, and from what it serves as people are told now."""


@dataclass(frozen=True, slots=True)
class ProjectGauge:
    """A gauge with the label `project`, and with `labels`, each with its possible values; () for any."""

    name: str
    help: str
    values: Read
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    summable: bool = False
    """Whether a sum over projects says something."""


def from_view(read: Callable[[ProjectView], float | None]) -> Read:
    """One value, from the view alone."""
    return lambda view, _: [((), read(view))]


def _once_polled(read: Callable[[ProjectView], float]) -> Read:
    """Nothing where Label Studio was never read."""
    return from_view(lambda view: read(view) if view.checked_at else None)


def _agreement(view: ProjectView) -> float | None:
    found = view.figures.agreement
    return found.agreed / found.annotations if found and found.annotations else None


def _not_counted(view: ProjectView, _: Served) -> Values:
    """Reasons that there are, and no others: most of a project's would be 0 for ever."""
    return [((row.reason,), float(row.count)) for row in view.not_counted]


STATE_GAUGES: Final = (
    ProjectGauge(
        "fitloop_project_info",
        "1, with the title that the project has in Label Studio.",
        lambda view, _: [((view.project.title,), 1.0)],
        {"title": ()},
    ),
    ProjectGauge(
        "fitloop_project_labels_waiting",
        "Labelled tasks that were added, edited or removed since the last run read the labels.",
        _once_polled(lambda view: view.changed),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_labels_needed",
        "Changed tasks that begin a run.",
        from_view(lambda view: view.needed),
    ),
    ProjectGauge(
        "fitloop_project_labelled_tasks",
        "Tasks with a label that can be learnt from.",
        _once_polled(lambda view: view.labelled),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_oldest_waiting_label_timestamp_seconds",
        "When the oldest of the labels that wait was made, or last edited; absent while none waits.",
        from_view(lambda view: view.figures.oldest_waiting_at),
    ),
    ProjectGauge(
        "fitloop_project_checked_timestamp_seconds",
        "When Label Studio last answered for the project; absent before the first time.",
        from_view(lambda view: view.checked_at or None),
    ),
    ProjectGauge(
        "fitloop_project_paused",
        "1 while no run begins by itself, because somebody said so.",
        from_view(lambda view: view.paused),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_pinned",
        "1 while the version that is served stays, because somebody said so.",
        from_view(lambda view: view.served.pinned),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_problem",
        "1 while the status page shows a problem of the project.",
        from_view(lambda view: bool(view.problem)),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_last_event_timestamp_seconds",
        "When Label Studio last sent an event of the project; absent where none is known of.",
        from_view(lambda view: view.figures.last_event_at),
    ),
    ProjectGauge(
        "fitloop_project_stored_bytes",
        "Bytes that are kept of the project, its versions above all, as they were counted last; runs are not among them.",
        from_view(lambda view: view.figures.stored_bytes),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_failed_runs",
        "Runs that failed in a row; 0 after one that did not.",
        from_view(lambda view: view.figures.failed_in_a_row),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_held_versions",
        "Versions in a row that were not promoted, since the one that is served was.",
        from_view(lambda view: view.figures.held_in_a_row),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_project_annotations_not_counted",
        "Annotations that do not count, by the reason why; a reason that there is not is absent.",
        _not_counted,
        {"reason": tuple(ANNOTATION_REASONS)},
        summable=True,
    ),
    ProjectGauge(
        "fitloop_agreement_ratio",
        "Share of the last annotations (at most 200) that say what Label Studio suggested. It flatters the model, because "
        "people accept what they see: it is no accuracy, and only its fall is news.",
        from_view(_agreement),
    ),
    ProjectGauge(
        "fitloop_agreement_annotations",
        "Annotations with a suggestion that the agreement is of.",
        from_view(lambda view: view.figures.agreement.annotations if view.figures.agreement else None),
        summable=True,
    ),
)
