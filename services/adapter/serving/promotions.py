"""From a published version to the served one: decided, rolled out to all predictors, then put into effect.

A version becomes `target` first, and `current` once its rollout is done, which may take many steps: nothing here waits. A
version that a predictor refuses is withdrawn, and the old one stays; any other problem is reported, and the version stays
`target`. The outcome is written last, so that a crash at any point leads to the same result. Only the controller's thread may
call this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from services.adapter.ports import Rollout, RolloutStatus
from services.adapter.serving import messages
from services.adapter.serving.table import RolloutTracker, ServingTableWriter
from services.adapter.state.documents import Outcome, ProjectDocuments, VersionOutcome
from services.core.domain import Project, Published, Served
from services.core.errors import UNUSABLE_VERSION, BadRequest, NotFound, StoreError
from services.core.registry import Registry

log = structlog.get_logger()


@dataclass(slots=True)
class EvaluationIndex:
    """What each version was compared with and when it was made: read once, because versions are immutable."""

    registry: Registry
    _known: dict[tuple[str, str], tuple[str | None, float]] = field(default_factory=dict)

    def compared_with(self, project_key: str, version: str) -> str | None:
        """Return the version that the gate compared it with. Raises StoreError, NotFound."""
        return self._comparison(project_key, version)[0]

    def is_newer(self, project_key: str, version: str | None, other: str) -> bool:
        """Return whether the version was made after the other one; False if one of them cannot be read."""
        try:
            return (
                version is not None
                and self._comparison(project_key, version)[1] > self._comparison(project_key, other)[1]
            )
        except StoreError:
            return False

    def next_to_decide(self, project_key: str, waiting: Sequence[Published]) -> Published:
        """Return which of these (oldest first) is decided first: the newest, which supersedes the others.

        But none before the version that it was compared with.
        """
        names = {one.version for one in waiting}
        free = [
            one for one in waiting if not one.promote or self._compared_with(project_key, one) not in names
        ]
        return (free or waiting)[-1]

    def _compared_with(self, project_key: str, published: Published) -> str | None:
        try:
            return self.compared_with(project_key, published.version)
        except StoreError:  # reported when the version is decided
            return None

    def _comparison(self, project_key: str, version: str) -> tuple[str | None, float]:
        name = (project_key, version)
        if name not in self._known:
            manifest = self.registry.manifest(*name)
            self._known[name] = (manifest.gate.compared_with, manifest.created_at)
        return self._known[name]


@dataclass(slots=True)
class Promotions:
    """Decides which version each project serves."""

    table: ServingTableWriter
    rollout: Rollout
    clock: Callable[[], float] = time.time
    _falling_back: set[str] = field(default_factory=set)
    """Projects whose broken version is being replaced by the previous one."""
    _evaluations: EvaluationIndex = field(init=False)
    rollouts: RolloutTracker = field(init=False)

    def __post_init__(self) -> None:
        self._evaluations = EvaluationIndex(self.table.registry)
        self.rollouts = RolloutTracker(self.table, self.rollout, self.clock)

    def served(self, project_key: str) -> Served:
        """Return what the project serves. Raises StoreError."""
        return self.table.served(project_key)

    def decide(
        self, project: Project, waiting: Sequence[Published], documents: ProjectDocuments, now: float
    ) -> dict[str, VersionOutcome]:
        """Decide versions that runs have published, oldest first; return the outcomes, each of which is written once.

        A version without an outcome is being rolled out, or waits for one that is. Raises StoreError if it must be retried.
        """
        left, outcomes = list(waiting), dict[str, VersionOutcome]()
        while left:
            published = self._evaluations.next_to_decide(project.key, left)
            found = self._outcome_of(project, published, now)
            if found is None:
                break
            left.remove(published)
            outcome = VersionOutcome(published.version, *found, now, self.table.term)
            documents.write_outcome(outcome)
            outcomes[published.version] = outcome
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
        try:
            status = self.rollouts.check(project.key, served.current)
        except UNUSABLE_VERSION as error:
            problem = f"{served.current} cannot be served: {error}"
            if project.key not in self._falling_back:
                log.error("served_version_broken", project=project.id, reason=problem)
            return self._fall_back(project, served, problem, now)
        self._falling_back.discard(project.key)
        return "" if status.done else status

    def _fall_back(self, project: Project, served: Served, problem: str, now: float) -> str | RolloutStatus:
        if served.previous is None:
            return f"{problem} There is no version before it: train again."
        self._falling_back.add(project.key)
        try:
            done = self._advance(project, served.previous, problem, now, pinned=served.pinned)
        except UNUSABLE_VERSION as error:
            self._falling_back.discard(project.key)
            return f"{problem} Nor can {served.previous}: {error}"
        if not done:
            return self.rollouts.status(project.key) or RolloutStatus(done=False)
        log.warning(
            "fell_back_to_previous_version", project=project.id, version=served.previous, reason=problem
        )
        return f"{problem} {served.previous} is served instead."

    def _outcome_of(self, project: Project, published: Published, now: float) -> tuple[Outcome, str] | None:
        """Return the version's outcome and the reason; None while it is undecided."""
        served = self.served(project.key)
        version, reason = published.version, published.sentence
        if version == served.current:
            return Outcome.PROMOTED, reason
        if not published.promote:
            return Outcome.HELD, reason
        if served.pinned:
            return Outcome.HELD, messages.pinned(project, served)
        if project.key in self._falling_back:
            return None
        try:
            return self._try_to_promote(project, published, served, now)
        except UNUSABLE_VERSION as error:
            stays = f"{served.current} stays" if served.current else "nothing is served yet"
            return Outcome.REFUSED, f"{version} was refused: {error} {stays}."

    def _try_to_promote(
        self, project: Project, published: Published, served: Served, now: float
    ) -> tuple[Outcome, str] | None:
        version = published.version
        compared_with = self._evaluations.compared_with(project.key, version)
        if compared_with != served.current:
            if self._evaluations.is_newer(project.key, served.current, version):
                return Outcome.HELD, messages.superseded(version, served.current)
            replaces_broken = self._replaces_broken(project, compared_with, served)
            if replaces_broken is None:
                return None
            if not replaces_broken:
                return Outcome.STALE, messages.stale(version, compared_with, served.current)
        if self._advance(project, version, published.sentence, now, pinned=False):
            return Outcome.PROMOTED, published.sentence
        return None

    def _replaces_broken(self, project: Project, compared_with: str | None, served: Served) -> bool | None:
        """Return whether a version compared with nothing may replace the served one because that is broken; None: not known yet.

        Otherwise nothing could ever replace it.
        """
        if compared_with is not None or served.current is None:
            return False
        try:
            status = self.rollouts.check(project.key, served.current)
        except UNUSABLE_VERSION:
            return True
        return False if status.done else None

    def _advance(self, project: Project, version: str, why: str, now: float, *, pinned: bool) -> bool:
        falls_back = project.key in self._falling_back
        done = self.rollouts.advance(project.key, version, why, now, pinned=pinned, immediately=falls_back)
        if done:
            self._falling_back.discard(project.key)
        return done
