"""A project as the board shows it, put together from what its steward knows. Reads manifests, changes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from services.adapter.serving import label_studio, sentences
from services.adapter.serving.newest import LatestDecisionReader
from services.adapter.serving.versions import Versions
from services.adapter.state.board import ProjectView, effective_served
from services.adapter.state.documents import Outcome
from services.adapter.supervision.figures import build_figures
from services.adapter.training.planner import Planner
from services.adapter.training.runs import RunHistory, RunRecord
from services.core.domain import LabelSpace, Manifest, Project, RunState, RunStatus
from services.core.errors import StoreError
from services.core.registry import Registry
from services.core.runs import FINAL


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
