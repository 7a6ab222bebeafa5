"""What is known of a project's labels, and of its state as a whole. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.adapter.gauges.gauge import ProjectGauge, Read, Values, plain
from services.adapter.state.board import ProjectView
from services.core.domain import Served
from services.core.labels.uncounted import ANNOTATION_REASONS


def _of_labels(read: Callable[[ProjectView], float]) -> Read:
    """Nothing where Label Studio was never read."""
    return plain(lambda view: read(view) if view.checked_at else None)


def _agreement(view: ProjectView) -> float | None:
    found = view.figures.agreement
    return found.agreed / found.annotations if found and found.annotations else None


def _not_counted(view: ProjectView, _: Served) -> Values:
    """Reasons that there are, and no others: most of a project's would be 0 for ever."""
    return [((row.reason,), float(row.count)) for row in view.not_counted]


PROJECTS: Final = (
    ProjectGauge(
        "fitloop_project_info",
        "1, with the title that the project has in Label Studio.",
        lambda view, _: [((view.project.title,), 1.0)],
        {"title": ()},
    ),
    ProjectGauge(
        "fitloop_project_labels_waiting",
        "Labelled tasks that were added, edited or removed since the last run read the labels.",
        _of_labels(lambda view: view.changed),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_labels_needed",
        "Changed tasks that begin a run.",
        plain(lambda view: view.needed),
    ),
    ProjectGauge(
        "fitloop_project_labelled_tasks",
        "Tasks with a label that can be learnt from.",
        _of_labels(lambda view: view.labelled),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_oldest_waiting_label_timestamp_seconds",
        "When the oldest of the labels that wait was made, or last edited; absent while none waits.",
        plain(lambda view: view.figures.oldest_waiting_at),
    ),
    ProjectGauge(
        "fitloop_project_checked_timestamp_seconds",
        "When Label Studio last answered for the project; absent before the first time.",
        plain(lambda view: view.checked_at or None),
    ),
    ProjectGauge(
        "fitloop_project_paused",
        "1 while no run begins by itself, because somebody said so.",
        plain(lambda view: view.paused),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_pinned",
        "1 while the version that is served stays, because somebody said so.",
        plain(lambda view: view.served.pinned),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_problem",
        "1 while the status page shows a problem of the project.",
        plain(lambda view: bool(view.problem)),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_last_event_timestamp_seconds",
        "When Label Studio last sent an event of the project; absent where none is known of.",
        plain(lambda view: view.figures.last_event_at),
    ),
    ProjectGauge(
        "fitloop_project_stored_bytes",
        "Bytes that are kept of the project, its versions above all, as they were counted last; runs are not among them.",
        plain(lambda view: view.figures.stored_bytes),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_failed_runs",
        "Runs that failed in a row; 0 after one that did not.",
        plain(lambda view: view.figures.failed_in_a_row),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_held_versions",
        "Versions in a row that were not promoted, since the one that is served was.",
        plain(lambda view: view.figures.held_in_a_row),
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_project_annotations_not_counted",
        "Annotations that do not count, by the reason why; a reason that there is not is absent.",
        _not_counted,
        {"reason": tuple(ANNOTATION_REASONS)},
        adds_up=True,
    ),
    ProjectGauge(
        "fitloop_agreement_ratio",
        "Share of the last annotations (at most 200) that say what Label Studio suggested. It flatters the model, because "
        "people accept what they see: it is no accuracy, and only its fall is news.",
        plain(_agreement),
    ),
    ProjectGauge(
        "fitloop_agreement_annotations",
        "Annotations with a suggestion that the agreement is of.",
        plain(lambda view: view.figures.agreement.annotations if view.figures.agreement else None),
        adds_up=True,
    ),
)
