"""From a published version to the served one: decided by `promotion.decide`, rolled out to all predictors, then put into effect.

A version that a predictor refuses is withdrawn, and the old one stays; any other problem is reported, and the version stays
`target`. The outcome is written last, so that a crash at any point leads to the same result. Only the controller's thread may
call this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from services.adapter.ports import Rollout, RolloutStatus
from services.adapter.serving import messages
from services.adapter.serving.manifest_cache import ManifestCache, Origin
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
from services.adapter.serving.rollouts import ProjectRollout
from services.adapter.serving.table import ServingTableWriter
from services.adapter.state.documents import ProjectDocuments, PromotionResult, VersionOutcome
from services.core.domain import Project, Published, Served
from services.core.errors import (
    UNUSABLE_VERSION,
    BadRequest,
    NotFound,
    UnknownFormat,
)

log = structlog.get_logger()


@dataclass(slots=True)
class Promotions:
    """What the promotions of all projects share."""

    table: ServingTableWriter
    rollout: Rollout
    clock: Callable[[], float] = time.time

    def of(self, project: Project, documents: ProjectDocuments) -> ProjectPromotions:
        """Return the promotions of one project."""
        return ProjectPromotions(
            project.id,
            ProjectRollout(project.key, self.table, self.rollout, self.clock),
            documents,
            ManifestCache(self.table.registry, project.key, self.clock),
        )


@dataclass(slots=True)
class ProjectPromotions:
    """Decides which version one project serves."""

    project_id: int
    rollout: ProjectRollout
    documents: ProjectDocuments
    manifests: ManifestCache
    _falling_back: str = ""
    """What is wrong with the served version while the one before it is being rolled out; "" otherwise."""

    def candidate(self, published: Published, control: str | None) -> Candidate | None:
        """Return the version to decide on; None if a newer release wrote its manifest. Raises StoreError to be retried.

        `control`: the one that its run was requested for.
        """
        if not published.promote:
            return Candidate(published, None, control)
        try:
            manifest = self.manifests.read(published.version)
        except NotFound:
            return Candidate(published, None, control, "it was deleted, or has lost its manifest.")
        except UNUSABLE_VERSION as error:
            return Candidate(published, None, control, str(error))
        except UnknownFormat:
            return None
        evaluation = Evaluation(manifest.gate.compared_with, manifest.created_at, not manifest.is_from_names)
        return Candidate(published, evaluation, control)

    def decide(
        self, candidates: Sequence[Candidate], control: str | None, now: float
    ) -> dict[str, VersionOutcome]:
        """Decide on versions that runs have published, oldest first; return the outcomes, each of which is written once.

        A version without an outcome is being rolled out, or waits for one that is. `control`: the one in use. Raises
        StoreError if it must be retried.
        """
        left, outcomes = list(candidates), dict[str, VersionOutcome]()
        while left:
            candidate = next_to_decide(left)
            found = self._apply(candidate, self._situation(control), now)
            if found is None:
                break
            left.remove(candidate)
            term = self.rollout.table.term
            outcome = VersionOutcome(candidate.version, found.result, found.reason, now, term)
            self.documents.write_outcome(outcome)
            outcomes[candidate.version] = outcome
            log.info(
                "version_decided",
                project=self.project_id,
                version=outcome.version,
                fate=outcome.fate,
                reason=outcome.sentence,
            )
        return outcomes

    def force(self, version: str, why: str, now: float) -> bool:
        """Serve a version at a person's request, and pin it; return whether that is done. Raises BadRequest, EngineError, StoreError."""
        try:
            self.manifests.registry.manifest(self.manifests.project_key, version)
        except NotFound as error:
            raise BadRequest(
                f"Project {self.project_id} has no version {version!r}: "
                f"`fitloop versions {self.project_id}` lists them."
            ) from error
        if self.rollout.served.current == version:
            self.rollout.withdraw()
            self.rollout.pin(why)
        elif not self._advance(version, why, now, pinned=True):
            return False
        log.info("version_forced", project=self.project_id, version=version, reason=why)
        return True

    def check_served(self, now: float) -> str | RolloutStatus:
        """After a start, check that the served version is loaded; return a status while it is not.

        A broken version is replaced by the previous one; return a message about that, or "".
        """
        served = self.rollout.served
        if served.current is None:
            return ""
        try:
            status = self.rollout.check(served.current)
        except UNUSABLE_VERSION as error:
            if not self._falling_back:
                self._falling_back = f"{served.current} cannot be served: {error}"
                log.error("served_version_broken", project=self.project_id, reason=self._falling_back)
        else:
            if status.done or not self._falling_back:
                self._falling_back = ""
                return "" if status.done else status
        return self._fall_back(served, self._falling_back, now)  # continues while predictors do not answer

    def _fall_back(self, served: Served, problem: str, now: float) -> str | RolloutStatus:
        if served.previous is None:
            self._falling_back = ""
            return f"{problem} There is no version before it: train again."
        try:
            done = self._advance(served.previous, problem, now, pinned=served.pinned)
        except UNUSABLE_VERSION as error:
            self._falling_back = ""
            return f"{problem} Nor can {served.previous}: {error}"
        if not done:
            return self.rollout.status or RolloutStatus(done=False)
        log.warning(
            "fell_back_to_previous_version", project=self.project_id, version=served.previous, reason=problem
        )
        return f"{problem} {served.previous} is served instead."

    def _situation(self, control: str | None) -> Situation:
        """Observe what decisions depend on. Raises StoreError."""
        served = self.rollout.served
        manifest = self.manifests.find(served.current)
        return Situation(
            self.project_id,
            served,
            self._served_state(served),
            self.rollout.target,
            manifest.created_at if manifest else None,
            self.served_origin,
            control,
            falling_back=bool(self._falling_back),
        )

    @property
    def served_origin(self) -> Origin:
        """What the served version was made from; labels if there is none. Raises StoreError."""
        current = self.rollout.served.current
        return self.manifests.origin(current) if current else Origin.LABELS

    def _served_state(self, served: Served) -> ServedState:
        if served.current is None:
            return ServedState.OK
        try:
            status = self.rollout.check(served.current)
        except UNUSABLE_VERSION:
            return ServedState.BROKEN
        return ServedState.OK if status.done else ServedState.CHECKING

    def _apply(self, candidate: Candidate, situation: Situation, now: float) -> Hold | None:
        """Apply the decision on a version; return its result, None while it has none. Raises StoreError."""
        decision = decide(candidate, situation)
        if isinstance(decision, Hold):
            return decision
        if not isinstance(decision, Promote):
            return None
        version, current = candidate.version, situation.served.current
        try:
            done = self._advance(version, decision.reason, now, pinned=False)
        except UNUSABLE_VERSION as error:
            return Hold(PromotionResult.REFUSED, messages.refused(version, str(error), current))
        return Hold(PromotionResult.PROMOTED, decision.reason) if done else None

    def _advance(self, version: str, why: str, now: float, *, pinned: bool) -> bool:
        manifest, immediately = self.manifests.find(version), bool(self._falling_back)
        encoder = manifest.encoder if manifest else ""
        done = self.rollout.advance(
            version, why, now, pinned=pinned, immediately=immediately, encoder=encoder
        )
        if done:
            self._falling_back = ""
        return done
