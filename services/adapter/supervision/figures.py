"""A project's figures for metrics, drawn from what its steward knows. Pure."""

from __future__ import annotations

from dataclasses import replace

from services.adapter.serving.versions import Versions
from services.adapter.state.board import CurrentVersion, Figures, LatestDecision, ProjectView
from services.adapter.training import trigger
from services.adapter.training.planner import Planner
from services.adapter.training.runs import RunHistory, RunRecord
from services.core.domain import Manifest, Pending


def build_figures(
    history: RunHistory,
    planner: Planner,
    versions: Versions,
    manifest: Manifest | None,
    stored_bytes: int | None,
    judged: LatestDecision | None,
) -> Figures:
    """The figures now. `manifest`: that of the version that people are told of."""
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
        rollout_since=versions.served.target_since or None if versions.target else None,
        agreement=planner.reading.agreement if planner.reading else None,
        judged=judged,
    )


def with_earlier_labels(view: ProjectView, before: ProjectView | None) -> ProjectView:
    """The view; until Label Studio was read in this term, with the labels as they were known before it."""
    if view.checked_at or before is None:
        return view
    labels = before.figures
    figures = replace(view.figures, oldest_waiting_at=labels.oldest_waiting_at, agreement=labels.agreement)
    return replace(
        view,
        labelled=before.labelled,
        not_counted=before.not_counted,
        changed=before.changed,
        checked_at=before.checked_at,
        figures=figures,
    )


def _pending_kind(active: RunRecord | None, planner: Planner) -> str:
    if active is None:
        return Pending.TURN if planner.is_queued else ""
    if not active.waiting_reason:
        return ""
    known = active.launch.pending if active.launch else ""
    return known or Pending.OTHER


def _current_version(told: Manifest | None) -> CurrentVersion | None:
    if told is None:
        return None
    return CurrentVersion(
        told.version, told.method.value, told.artefact.engine, told.estimate, told.created_at
    )


def _rollout_state(versions: Versions) -> str:
    if versions.target is None:
        return "settled"
    standing = versions.rollout_status
    return "blocked" if standing and standing.blocked else "moving"
