"""A project's figures for metrics, from what its reconciler's parts know. Pure."""

from __future__ import annotations

from services.adapter.serving.versions import ProjectVersions
from services.adapter.state.board import CurrentVersion, Figures, LatestDecision
from services.adapter.state.project_state import RunRecord
from services.adapter.training import trigger
from services.adapter.training.planner import Planner
from services.adapter.training.runs import RunHistory
from services.core.domain import EstimateErrors, Manifest, Pending, PoolState
from services.core.learning_curve import outlook


def build_figures(
    history: RunHistory,
    planner: Planner,
    versions: ProjectVersions,
    manifest: Manifest | None,
    stored_bytes: int | None,
    decision: LatestDecision | None,
    pool: PoolState | None,
    estimates: EstimateErrors | None,
) -> Figures:
    """Return the figures for metrics. `manifest` is that of the version in effect."""
    active = history.active
    return Figures(
        oldest_waiting_at=planner.observation.oldest_change if planner.observation else None,
        last_event_at=planner.webhook.last_event_at,
        stored_bytes=stored_bytes,
        failed_in_a_row=trigger.failures_in_a_row(history.ended),
        held_in_a_row=versions.held_in_a_row,
        requested_at=active.request.created_at if active else None,
        started_at=active.started_at if active else None,
        pending=_pending_kind(active, planner),
        current=_current_version(manifest),
        rollout=_rollout_state(versions),
        rollout_since=versions.rollout.served.target_since or None if versions.rollout.target else None,
        agreement=planner.reading.agreement if planner.reading else None,
        help=planner.reading.help if planner.reading else None,
        judged=decision,
        pool=pool,
        estimates=estimates,
    )


def _pending_kind(active: RunRecord | None, planner: Planner) -> str:
    if active is None:
        return Pending.TURN if planner.is_queued else ""
    if not active.waiting_reason:
        return ""
    known = active.launch.pending if active.launch else ""
    return known or Pending.OTHER


def _current_version(manifest: Manifest | None) -> CurrentVersion | None:
    if manifest is None:
        return None
    return CurrentVersion(
        manifest.version,
        manifest.method.value,
        manifest.artefact.engine,
        manifest.estimate,
        manifest.created_at,
        outlook=outlook(manifest.curve),
        expected=manifest.expected,
        is_evaluated=manifest.is_evaluated,
    )


def _rollout_state(versions: ProjectVersions) -> str:
    if versions.rollout.target is None:
        return "settled"
    return "blocked" if versions.rollout.is_blocked else "moving"
