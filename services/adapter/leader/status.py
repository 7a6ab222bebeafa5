"""The status of one project as the board shows it, built from its reconciler's parts. Reads manifests, changes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from services.adapter.leader.estimate_scoring import EstimateScoring
from services.adapter.leader.figures import build_figures
from services.adapter.serving import messages
from services.adapter.serving.label_studio import RefreshProgress, progress_message
from services.adapter.serving.manifest_cache import ManifestCache
from services.adapter.serving.sync import LabelStudioSync
from services.adapter.serving.versions import ProjectVersions, no_suggestions_reason
from services.adapter.state.board import (
    LatestDecision,
    ProjectView,
    effective_served,
)
from services.adapter.state.documents import PromotionResult
from services.adapter.state.project_state import RunRecord, with_names_run
from services.adapter.training import cold_start
from services.adapter.training.embedding import Embedding
from services.adapter.training.planner import Planner
from services.adapter.training.run_queue import RunStarter
from services.adapter.training.runs import RunHistory, published_versions
from services.core.domain import (
    LabelSpace,
    Manifest,
    Project,
    RunState,
    RunStatus,
)
from services.core.errors import CorruptVersion, NotFound, StoreError, UnknownFormat
from services.core.labels.uncounted import truncation_message
from services.core.runs import FINAL


@dataclass(slots=True)
class StatusBuilder:
    """Builds the views of one project."""

    history: RunHistory
    planner: Planner
    versions: ProjectVersions
    sync: LabelStudioSync
    starter: RunStarter
    embedding: Embedding
    estimates: EstimateScoring
    _manifest: Manifest | None = None
    """Of the version in effect."""
    _latest_decision: LatestDecisionReader = field(init=False)

    def __post_init__(self) -> None:
        self._latest_decision = LatestDecisionReader(self.versions.promotions.manifests)

    def build(
        self,
        project: Project,
        space: LabelSpace | None,
        problems: Sequence[str],
        now: float,
        *,
        pending: bool,
        stored_bytes: int | None,
        webhook_silent: bool,
        earlier: ProjectView | None,
    ) -> ProjectView:
        """Return the view at `now`; `earlier` is the view that the last leader published."""
        progress = self.sync.progress(project.id)
        status = self._message(project, progress, now)  # which reads the manifest of the version in effect
        with_versions = with_names_run(self.history.records, self.history.state_file.state)
        decision = self._latest_decision.read(with_versions)
        foreign = self.versions.foreign(space)  # which forgets all other manifests
        active, last, planner, versions = self.history.active, self.history.last, self.planner, self.versions
        is_counted_by_label = not (planner.parameters or planner.defaults).is_own_model
        all_problems = (
            *problems,
            no_suggestions_reason(versions.rollout.served, space, foreign),
            versions.problem,
            versions.refusal,
            versions.blocked_reason,
            self.starter.problem,
            messages.failure(last) if last else "",
        )
        view = ProjectView(
            project=project,
            space=space,
            served=versions.rollout.served,
            labelled=planner.reading.labelled_for(planner.parameters) if planner.reading else 0,
            not_counted=planner.reading.not_counted if planner.reading and is_counted_by_label else (),
            changed=planner.observation.changed if planner.observation else 0,
            needed=planner.schedule.policy.every_n_updates,
            sentence=status,
            problem=" ".join(filter(None, all_problems)),
            active=_status(active) if active else None,
            embedding=_status(embedding) if (embedding := self.embedding.active) else None,
            waiting=active.waiting_reason if active else "",
            last=_status(last) if last else None,
            pending=pending and active is not None,
            paused=self.sync.connection.paused,
            checked_at=planner.reading.read_at if planner.reading else 0.0,
            figures=build_figures(
                self.history,
                planner,
                versions,
                self._manifest,
                stored_bytes,
                decision,
                self.embedding.pool,
                self.estimates.errors,
            ),
            foreign=foreign,
            version_names=published_versions(with_versions),
            own_models=versions.own_models,
            unevaluated=versions.unevaluated,
        )
        view = with_earlier_labels(view, earlier)
        advice = (
            *messages.pending_advice(view.figures.pending),
            *messages.advice(self.sync.connection.seen_url, silent=webhook_silent),
            decision.truncation if decision else "",
            cold_start.advice(self.embedding.wish, space) if is_counted_by_label else "",
        )
        return replace(view, hints=tuple(filter(None, advice)))

    def _message(self, project: Project, progress: RefreshProgress | None, now: float) -> str:
        active, outcome, versions = self.history.active, self.versions.outcome, self.versions
        return messages.join(
            self._serving(now),
            messages.rolling_out(versions.rollout.target, versions.rollout.status),
            outcome.sentence if outcome and outcome.fate is not PromotionResult.PROMOTED else "",
            messages.training(project, active) if active else self.planner.reason,
            messages.embedding(embedding) if (embedding := self.embedding.active) else "",
            progress_message(progress),
        )

    def _serving(self, now: float) -> str:
        served = effective_served(self.versions.rollout.served, now)
        if served.current and (self._manifest is None or self._manifest.version != served.current):
            try:
                self._manifest = self.versions.promotions.manifests.read_with_engine(served.current)
            except StoreError:
                self._manifest = None  # a problem of its own says that the version is broken
        return messages.serving(served.current, self._manifest, served.why, pinned=served.pinned)


def with_earlier_labels(view: ProjectView, before: ProjectView | None) -> ProjectView:
    """Return the view; until Label Studio was polled in this term, with the labels as they were known before it."""
    if before is not None and view.figures.estimates is None:  # until the first pass of this term
        view = replace(view, figures=replace(view.figures, estimates=before.figures.estimates))
    if view.checked_at or before is None:
        return view
    labels = before.figures
    figures = replace(
        view.figures,
        oldest_waiting_at=labels.oldest_waiting_at,
        agreement=labels.agreement,
        help=labels.help,
    )
    return replace(
        view,
        labelled=before.labelled,
        not_counted=before.not_counted,
        changed=before.changed,
        checked_at=before.checked_at,
        figures=figures,
    )


def _status(record: RunRecord) -> RunStatus:
    """Return the run's own status, with the outcome that its launcher knows better."""
    status = record.status or RunStatus(record.run, RunState.WAITING)
    if record.outcome is None or status.state in FINAL:
        return status
    return replace(status, state=record.outcome, exit_code=record.exit_code)


@dataclass(slots=True)
class LatestDecisionReader:
    """Reads the gate's decision on a project's newest version from its manifest, once."""

    manifests: ManifestCache
    _version: str = ""
    _decision: LatestDecision | None = None

    def read(self, records: Sequence[RunRecord]) -> LatestDecision | None:
        """Return the decision on the version published last; None if there is none, or it was deleted or is unreadable."""
        version = next(iter(published_versions(records)), "")
        if version != self._version:
            try:
                self._decision = self._read(version) if version else None
            except StoreError:
                return None  # retried the next time
            self._version = version
        return self._decision

    def _read(self, version: str) -> LatestDecision | None:
        try:
            manifest = self.manifests.read(version)
        except (NotFound, CorruptVersion, UnknownFormat):
            return None
        gate = manifest.gate
        return LatestDecision(
            gate.promote, gate.kind, manifest.created_at, truncation_message(manifest.truncation)
        )
