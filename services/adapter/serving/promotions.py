"""From a published version to the served one: decided, rolled out to all predictors, then put into effect.

A version becomes `target` first, and `current` once its rollout is done, which may take many steps: nothing here waits. A
version that a predictor refuses is withdrawn, and the old one stays; any other problem is reported, and the version stays
`target`. The outcome is written last, so that a crash at any point leads to the same result. Only the controller's thread may
call this.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from services.adapter.ports import Rollout, RolloutStatus
from services.adapter.serving import messages
from services.adapter.serving.promotion import (
    Candidate,
    Evaluation,
    Hold,
    Promote,
    ServedState,
    Situation,
    decide,
    next_to_decide,
)
from services.adapter.serving.table import RolloutTracker, ServingTableWriter
from services.adapter.state.documents import Outcome, ProjectDocuments, VersionOutcome
from services.core.domain import Project, Published, Served
from services.core.errors import UNUSABLE_VERSION, BadRequest, NotFound, StoreError, UnknownFormat
from services.core.registry import Registry

log = structlog.get_logger()


@dataclass(slots=True)
class EvaluationReader:
    """The evaluations of versions: each is read once, because versions are immutable."""

    registry: Registry
    _known: dict[tuple[str, str], Evaluation] = field(default_factory=dict)

    def read(self, project_key: str, version: str) -> Evaluation:
        """Return what the version's manifest says. Raises StoreError."""
        name = (project_key, version)
        if name not in self._known:
            manifest = self.registry.manifest(*name)
            self._known[name] = Evaluation(manifest.gate.compared_with, manifest.created_at)
        return self._known[name]

    def candidate(self, project_key: str, published: Published, control: str | None) -> Candidate | None:
        """Return the version to decide on; None if a newer release wrote its manifest. Raises StoreError to be retried.

        `control`: the one that its run was requested for.
        """
        if not published.promote:
            return Candidate(published, None, control)
        try:
            return Candidate(published, self.read(project_key, published.version), control)
        except UNUSABLE_VERSION as error:
            return Candidate(published, None, control, str(error))
        except UnknownFormat:
            return None

    def created_at(self, project_key: str, version: str | None) -> float | None:
        """Return when the version was made; None if there is none, or its manifest cannot be read."""
        with contextlib.suppress(StoreError):
            return self.read(project_key, version).created_at if version else None
        return None


@dataclass(slots=True)
class Promotions:
    """Decides which version each project serves."""

    table: ServingTableWriter
    rollout: Rollout
    clock: Callable[[], float] = time.time
    _falling_back: dict[str, str] = field(default_factory=dict)
    """The projects whose broken version is being replaced by the previous one, each with what is wrong with it."""
    evaluations: EvaluationReader = field(init=False)
    rollouts: RolloutTracker = field(init=False)

    def __post_init__(self) -> None:
        self.evaluations = EvaluationReader(self.table.registry)
        self.rollouts = RolloutTracker(self.table, self.rollout, self.clock)

    def served(self, project_key: str) -> Served:
        """Return what the project serves. Raises StoreError."""
        return self.table.served(project_key)

    def decide(
        self,
        project: Project,
        candidates: Sequence[Candidate],
        control: str | None,
        documents: ProjectDocuments,
        now: float,
    ) -> dict[str, VersionOutcome]:
        """Decide on versions that runs have published, oldest first; return the outcomes, each of which is written once.

        A version without an outcome is being rolled out, or waits for one that is. `control`: the one in use. Raises
        StoreError if it must be retried.
        """
        left, outcomes = list(candidates), dict[str, VersionOutcome]()
        while left:
            candidate = next_to_decide(left)
            found = self._apply(project, candidate, self._situation(project, control), now)
            if found is None:
                break
            left.remove(candidate)
            outcome = VersionOutcome(candidate.version, found.outcome, found.reason, now, self.table.term)
            documents.write_outcome(outcome)
            outcomes[candidate.version] = outcome
            log.info(
                "version_decided",
                project=project.id,
                version=outcome.version,
                fate=outcome.fate,
                reason=outcome.sentence,
            )
        return outcomes

    def force(self, project: Project, version: str, why: str, now: float) -> bool:
        """Serve a version at a person's request, and pin it; return whether that is done. Raises BadRequest, EngineError, StoreError."""
        try:
            self.table.registry.manifest(project.key, version)
        except NotFound as error:
            raise BadRequest(
                f"Project {project.id} has no version {version!r}: `fitloop versions {project.id}` lists them."
            ) from error
        served = self.served(project.key)
        if served.current != version:
            done = self._advance(project, version, why, now, pinned=True)
        else:
            self.rollouts.withdraw(project.key)
            if not served.pinned:
                self.table.propose(project.key, lambda known: replace(known, pinned=True, why=why))
            done = True
        if done:
            log.info("version_forced", project=project.id, version=version, reason=why)
        return done

    def unpin(self, project_key: str) -> None:
        """Let the gate decide again."""
        if self.served(project_key).pinned:
            self.table.propose(project_key, lambda known: replace(known, pinned=False))

    def check_served(self, project: Project, now: float) -> str | RolloutStatus:
        """After a start, check that the served version is loaded; return a status while it is not.

        A broken version is replaced by the previous one; return a message about that, or "".
        """
        served = self.served(project.key)
        if served.current is None:
            return ""
        problem = self._falling_back.get(project.key, "")
        try:
            status = self.rollouts.check(project.key, served.current)
        except UNUSABLE_VERSION as error:
            if not problem:
                problem = f"{served.current} cannot be served: {error}"
                log.error("served_version_broken", project=project.id, reason=problem)
        else:
            if status.done or not problem:
                self._falling_back.pop(project.key, None)
                return "" if status.done else status
        return self._fall_back(project, served, problem, now)  # goes on while predictors do not answer

    def _fall_back(self, project: Project, served: Served, problem: str, now: float) -> str | RolloutStatus:
        if served.previous is None:
            return f"{problem} There is no version before it: train again."
        self._falling_back[project.key] = problem
        try:
            done = self._advance(project, served.previous, problem, now, pinned=served.pinned)
        except UNUSABLE_VERSION as error:
            self._falling_back.pop(project.key, None)
            return f"{problem} Nor can {served.previous}: {error}"
        if not done:
            return self.rollouts.status(project.key) or RolloutStatus(done=False)
        log.warning(
            "fell_back_to_previous_version", project=project.id, version=served.previous, reason=problem
        )
        return f"{problem} {served.previous} is served instead."

    def _situation(self, project: Project, control: str | None) -> Situation:
        """Observe what decisions depend on. Raises StoreError."""
        served = self.served(project.key)
        return Situation(
            project.id,
            served,
            self._served_state(project.key, served),
            self.rollouts.target(project.key),
            self.evaluations.created_at(project.key, served.current),
            control,
            falling_back=project.key in self._falling_back,
        )

    def _served_state(self, project_key: str, served: Served) -> ServedState:
        if served.current is None:
            return ServedState.OK
        try:
            status = self.rollouts.check(project_key, served.current)
        except UNUSABLE_VERSION:
            return ServedState.BROKEN
        return ServedState.OK if status.done else ServedState.CHECKING

    def _apply(self, project: Project, candidate: Candidate, situation: Situation, now: float) -> Hold | None:
        """Apply the decision on a version; return its outcome, None while it has none. Raises StoreError."""
        decision = decide(candidate, situation)
        if isinstance(decision, Hold):
            return decision
        if not isinstance(decision, Promote):
            return None
        version, current = candidate.version, situation.served.current
        try:
            done = self._advance(project, version, decision.reason, now, pinned=False)
        except UNUSABLE_VERSION as error:
            return Hold(Outcome.REFUSED, messages.refused(version, str(error), current))
        return Hold(Outcome.PROMOTED, decision.reason) if done else None

    def _advance(self, project: Project, version: str, why: str, now: float, *, pinned: bool) -> bool:
        falls_back = project.key in self._falling_back
        done = self.rollouts.advance(project.key, version, why, now, pinned=pinned, immediately=falls_back)
        if done:
            self._falling_back.pop(project.key, None)
        return done
