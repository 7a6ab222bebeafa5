"""When the next step of a project is due, if nothing happens before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from services.adapter.leader.reconciler import ProjectReconciler

_ROLLOUT_SECONDS: Final = 0.1
"""Between steps from a version's publication to the end of its rollout: annotators wait for it."""
_ACTIVE_SECONDS: Final = 0.5
"""Between steps while a run is active or a refresh is in progress."""
_BLOCKED_SECONDS: Final = 1.0
"""Between steps while a rollout is blocked: all projects are, if no predictor answers."""


def next_step_at(project: ProjectReconciler, now: float) -> float:
    """Return when the next step is due. Raises StoreError."""
    if project.versions.is_rolling_out() or project.versions.is_deciding(now):
        return now + _ROLLOUT_SECONDS
    if now < (takes_effect := project.versions.rollout.served.since):
        return min(takes_effect, now + _ACTIVE_SECONDS)
    progress = project.sync.progress(project.project.id)
    is_refreshing = progress is not None and not progress.done
    if project.history.active is not None or project.embedding.active is not None or is_refreshing:
        return now + _ACTIVE_SECONDS
    if project.versions.is_changing(now):
        return now + (_BLOCKED_SECONDS if project.versions.is_blocked else _ACTIVE_SECONDS)
    quiet_at = project.planner.quiet_at
    return min(
        quiet_at if project.sync.new_tasks and now < quiet_at else float("inf"),
        project.embedding.due_at(now),
        project.polling.due_at(),
        project.planner.webhook.due_at(),
        project.sweeping.due_at,
        project.estimates.due_at,
        project.connection_check.due_at,
    )
