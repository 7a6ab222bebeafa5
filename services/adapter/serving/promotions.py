"""From a published version to the served one: decided by `promotion.decide`, rolled out to all predictors, then put into effect.

A version that a predictor refuses is withdrawn, and the old one stays; any other problem is reported, and the version stays
`target`. The outcome is written last, so that a crash at any point leads to the same result. Only the controller's thread may
call this.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
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
from services.adapter.serving.rollouts import ProjectRollout
from services.adapter.serving.table import ServingTableWriter
from services.adapter.state.documents import ProjectDocuments, PromotionResult, VersionOutcome
from services.core.domain import Manifest, Project, Published, Served
from services.core.errors import UNUSABLE_VERSION, BadRequest, NotFound, StoreError, UnknownFormat
from services.core.registry import Registry

log = structlog.get_logger()


@dataclass(slots=True)
class ManifestCache:
    """The manifests of one project's versions: each is read once, because versions are immutable."""

    registry: Registry
    project_key: str
    _known: dict[str, Manifest] = field(default_factory=dict)

    def begin(self, manifests: Iterable[Manifest]) -> None:
        """Continue from these manifests."""
        self._known |= {manifest.version: _without_annotations(manifest) for manifest in manifests}

    def read(self, version: str) -> Manifest:
        """Return the version's manifest without its annotation ids, of which there may be thousands. Raises StoreError."""
        if version not in self._known:
            manifest = self.registry.manifest(self.project_key, version)
            self._known[version] = _without_annotations(manifest)
        return self._known[version]

    def find(self, version: str | None) -> Manifest | None:
        """Return the version's manifest; None if there is no version, or its manifest cannot be read."""
        with contextlib.suppress(StoreError):
            return self.read(version) if version else None
        return None

    def keep(self, versions: AbstractSet[str]) -> None:
        """Forget all others."""
        for version in self._known.keys() - versions:
            del self._known[version]


def _without_annotations(manifest: Manifest) -> Manifest:
    return replace(manifest, lineage=replace(manifest.lineage, annotation_ids=()))


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
            ManifestCache(self.table.registry, project.key),
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
        except UNUSABLE_VERSION as error:
            return Candidate(published, None, control, str(error))
        except UnknownFormat:
            return None
        return Candidate(published, Evaluation(manifest.gate.compared_with, manifest.created_at), control)

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
            control,
            falling_back=bool(self._falling_back),
        )

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
        done = self.rollout.advance(version, why, now, pinned=pinned, immediately=bool(self._falling_back))
        if done:
            self._falling_back = ""
        return done
