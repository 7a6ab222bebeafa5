"""A project as the board shows it, put together from what its steward knows. Reads manifests, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.adapter.serving import label_studio, sentences
from services.adapter.serving.versions import Versions
from services.adapter.state.board import (
    CurrentVersion,
    Figures,
    LatestDecision,
    ProjectView,
    effective_served,
)
from services.adapter.state.documents import Outcome
from services.adapter.training import trigger
from services.adapter.training.planner import Planner
from services.adapter.training.runs import RunHistory, RunRecord
from services.core.domain import LabelSpace, Manifest, Pending, Project, RunState, RunStatus
from services.core.errors import CorruptVersion, NotFound, StoreError, UnknownFormat
from services.core.labels.uncounted import truncation_sentence
from services.core.registry import Registry
from services.core.runs import FINAL


@dataclass(slots=True)
class LatestDecisionReader:
    """Of one project; each manifest is read once."""

    registry: Registry
    _version: str = ""
    _decision: LatestDecision | None = None

    def read(self, project_key: str, records: Sequence[RunRecord]) -> LatestDecision | None:
        """Of what the runs published last; None where that is nothing, is gone, or cannot be read."""
        version = latest_published_version(records)
        if version != self._version:
            try:
                self._decision = self._read(project_key, version) if version else None
            except StoreError:
                return None  # it is read again the next time
            self._version = version
        return self._decision

    def _read(self, project_key: str, version: str) -> LatestDecision | None:
        try:
            manifest = self.registry.manifest(project_key, version)
        except (NotFound, CorruptVersion, UnknownFormat):
            return None
        cut = truncation_sentence(manifest.truncation)
        return LatestDecision(manifest.gate.promote, manifest.gate.kind, manifest.created_at, cut)


def latest_published_version(records: Sequence[RunRecord]) -> str:
    """The version that was published last; "" for none. `records` are oldest first."""
    published = (record.status.published for record in reversed(records) if record.status)
    return next((found[-1].version for found in published if found), "")


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


@dataclass(slots=True)
class StatusBuilder:
    """Draws views of one project."""

    registry: Registry
    history: RunHistory
    planner: Planner
    versions: Versions
    _manifest: Manifest | None = None
    _latest_decision: LatestDecisionReader = field(init=False)

    def __post_init__(self) -> None:
        """Nothing is read yet."""
        self._latest_decision = LatestDecisionReader(self.registry)

    def build(
        self,
        project: Project,
        space: LabelSpace | None,
        progress: label_studio.RefreshProgress | None,
        problems: tuple[str, ...],
        now: float,
        *,
        pending: bool,
        paused: bool,
        stored_bytes: int | None = None,
    ) -> ProjectView:
        """The view now."""
        sentence = self._sentence(project, progress, now)  # which reads the manifest of what is served
        active, last, planner = self.history.active, self.history.last, self.planner
        said = (*problems, sentences.failure(last) if last else "")
        judged = self._latest_decision.read(project.key, self.history.records)
        return ProjectView(
            project=project,
            space=space,
            served=self.versions.served,
            labelled=planner.reading.labelled if planner.reading else 0,
            not_counted=planner.reading.not_counted if planner.reading else (),
            changed=planner.observation.changed if planner.observation else 0,
            needed=planner.settings.every_n_updates,
            sentence=sentence,
            problem=" ".join(problem for problem in said if problem),
            active=_status(active) if active else None,
            waiting=active.waiting_reason if active else "",
            last=_status(last) if last else None,
            pending=pending and active is not None,
            paused=paused,
            checked_at=planner.reading.read_at if planner.reading else 0.0,
            figures=build_figures(self.history, planner, self.versions, self._manifest, stored_bytes, judged),
        )

    def _sentence(self, project: Project, progress: label_studio.RefreshProgress | None, now: float) -> str:
        active, verdict, versions = self.history.active, self.versions.outcome, self.versions
        return sentences.join(
            self._serving(project, now),
            sentences.rolling_out(versions.target, versions.rollout_status),
            verdict.sentence if verdict and verdict.fate is not Outcome.PROMOTED else "",
            sentences.training(project, active) if active else self.planner.reason,
            label_studio.progress_sentence(progress),
        )

    def _serving(self, project: Project, now: float) -> str:
        served = effective_served(self.versions.served, now)
        if served.current and (self._manifest is None or self._manifest.version != served.current):
            try:
                self._manifest = self.registry.manifest(project.key, served.current)
            except StoreError:
                self._manifest = None  # it is said elsewhere that the version is broken
        return sentences.serving(served.current, self._manifest, served.why, pinned=served.pinned)


def _status(record: RunRecord) -> RunStatus:
    """What the run says of itself, with the outcome that its launcher knows better."""
    said = record.status or RunStatus(record.run, RunState.WAITING)
    if record.outcome is None or said.state in FINAL:
        return said
    return replace(said, state=record.outcome, exit_code=record.exit_code)
