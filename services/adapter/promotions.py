"""From a published version to the one that a project serves: brought to every process that answers, then told of.

A version becomes `target` first, and `current` only once the rollout is done with it, which may take many steps: nothing
here waits. One that a process refuses is withdrawn and the old one stays; what merely hinders it is said, and it stays
`target`. The verdict is written last, so a crash anywhere is gone over again with the same end. Only the supervisor's
thread may call this.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from services.adapter import sentences
from services.adapter.judgements import Judgements
from services.adapter.ledger import Ledger
from services.adapter.notebook import Fate, Notebook, Verdict
from services.adapter.ports import Rollout, Standing
from services.core.domain import Project, Published, Served
from services.core.errors import (
    BadRequest,
    CorruptVersion,
    EngineError,
    FitloopError,
    NotFound,
    StoreError,
)

log = structlog.get_logger()
UNUSABLE = (EngineError, CorruptVersion, NotFound)
"""What says that a version is bad; any other error is trouble that passes."""


@dataclass(slots=True)
class Promotions:
    """Which version each project serves, and which one is on its way."""

    ledger: Ledger
    rollout: Rollout
    clock: Callable[[], float] = time.time
    _standings: dict[str, Standing] = field(default_factory=dict)
    _pursued: dict[str, str] = field(default_factory=dict)
    """By project, the target that somebody still wanted in this step."""
    _aside: dict[str, str] = field(default_factory=dict)
    """By project, a version that is wanted and for a while no target, so that what the others wait for comes without it."""
    _falling: set[str] = field(default_factory=set)
    """Projects whose broken version gives way to the one before."""
    _judgements: Judgements = field(init=False)

    def __post_init__(self) -> None:
        """Judgements are read from the same registry."""
        self._judgements = Judgements(self.ledger.registry)

    def served(self, project_key: str) -> Served:
        """What the project serves. Raises StoreError."""
        return self.ledger.served(project_key)

    def coming(self, project_key: str) -> str | None:
        """The version that is on its way: the project's target, or one that was set aside."""
        return self.served(project_key).target or self._aside.get(project_key)

    def standing(self, project_key: str) -> Standing | None:
        """How far that is; None where there is none."""
        return self._standings.get(project_key) if self.coming(project_key) else None

    def tend(self, now: float) -> None:
        """See to rollouts that nobody asks about any more. Trouble passes: the next call looks again."""
        try:
            self.rollout.tend(now)
        except FitloopError as error:
            log.warning("the rollout cannot be looked after", reason=str(error))

    def is_moving(self, project_key: str, now: float) -> bool:
        """Whether a version is on its way, or told of in a moment."""
        served = self.served(project_key)
        return served.target is not None or now < served.since

    def take_up(
        self, project: Project, waiting: Sequence[Published], notebook: Notebook, now: float
    ) -> dict[str, Verdict]:
        """Deal with versions that runs have published, oldest first: the verdicts, each of which is given once.

        A version without one is on its way, or waits for one that is. Raises StoreError where it must be tried again.
        """
        left, verdicts = list(waiting), dict[str, Verdict]()
        while left:
            published = self._judgements.next(project.key, left)
            found = self._deal_with(project, published, now)
            if found is None:
                break
            left.remove(published)
            verdict = verdicts[published.version] = Verdict(published.version, *found, now)
            notebook.write_verdict(verdict)
            log.info(
                "a version was taken up",
                project=project.id,
                version=verdict.version,
                fate=verdict.fate,
                reason=verdict.sentence,
            )
        return verdicts

    def force(self, project: Project, version: str, why: str, now: float) -> bool:
        """Serve a version because a person says so, and pin it; whether that is done. Raises BadRequest, EngineError or StoreError."""
        try:
            self.ledger.registry.manifest(project.key, version)
        except NotFound as error:
            raise BadRequest(
                f"Project {project.id} has no version {version!r}: `fitloop versions {project.id}` lists them."
            ) from error
        served = self.served(project.key)
        if served.current != version:
            done = self._pursue(project.key, version, why, now, pinned=True)
        else:
            self._withdraw(project.key)
            if not served.pinned:
                self.ledger.change(project.key, lambda known: replace(known, pinned=True, why=why))
            done = True
        if done:
            log.info("a version was forced", project=project.id, version=version, reason=why)
        return done

    def unpin(self, project_key: str) -> None:
        """Let the gate decide again."""
        if self.served(project_key).pinned:
            self.ledger.change(project_key, lambda known: replace(known, pinned=False))

    def restore(self, project: Project, now: float) -> str | Standing:
        """After a start: see that what is served is held. A Standing: it is not yet.

        Where it is broken the previous one serves; the sentence that says so, or "".
        """
        served = self.served(project.key)
        if served.current is None:
            return ""
        try:
            standing = self._check(project.key, served.current)
        except UNUSABLE as error:
            problem = f"{served.current} cannot be served: {error}"
            if project.key not in self._falling:
                log.error("the served version is broken", project=project.id, reason=problem)
            return self._fall_back(project, served, problem, now)
        self._falling.discard(project.key)
        return "" if standing.done else standing

    def settle(self, project_key: str) -> None:
        """At the end of a step: a target that nobody wanted in it is none any more."""
        if self.coming(project_key) != self._pursued.pop(project_key, None):
            self._withdraw(project_key)

    def _fall_back(self, project: Project, served: Served, problem: str, now: float) -> str | Standing:
        if served.previous is None:
            return f"{problem} There is no version before it: train again."
        self._falling.add(project.key)
        try:
            done = self._pursue(project.key, served.previous, problem, now, pinned=served.pinned)
        except UNUSABLE as error:
            self._falling.discard(project.key)
            return f"{problem} Nor can {served.previous}: {error}"
        if not done:
            return self._standings[project.key]
        return f"{problem} {served.previous} serves instead."

    def _deal_with(self, project: Project, published: Published, now: float) -> tuple[Fate, str] | None:
        """What becomes of it; None: that is not known yet."""
        served = self.served(project.key)
        version, sentence = published.version, published.sentence
        if version == served.current:
            return Fate.PROMOTED, sentence
        if not published.promote:
            return Fate.HELD, sentence
        if served.pinned:
            return Fate.HELD, sentences.pinned(project, served)
        if project.key in self._falling:
            return None
        try:
            return self._try(project, published, served, now)
        except UNUSABLE as error:
            stays = f"{served.current} serves on" if served.current else "nothing is served yet"
            return Fate.REFUSED, f"{version} was refused: {error} {stays}."

    def _try(
        self, project: Project, published: Published, served: Served, now: float
    ) -> tuple[Fate, str] | None:
        version = published.version
        compared_with = self._judgements.compared_with(project.key, version)
        if compared_with != served.current:
            if self._judgements.is_newer(project.key, served.current, version):
                return Fate.HELD, sentences.superseded(version, served.current)
            excused = self._is_excused(project, compared_with, served)
            if excused is None:
                return None
            if not excused:
                return Fate.STALE, sentences.stale(version, compared_with, served.current)
        if self._pursue(project.key, version, published.sentence, now, pinned=False):
            return Fate.PROMOTED, published.sentence
        return None

    def _is_excused(self, project: Project, compared_with: str | None, served: Served) -> bool | None:
        """Compared with nothing, because what is served is broken: then nothing else can ever take its place."""
        if compared_with is not None or served.current is None:
            return False
        try:
            standing = self._check(project.key, served.current)
        except UNUSABLE:
            return True
        return False if standing.done else None

    def _pursue(self, project_key: str, version: str, why: str, now: float, *, pinned: bool) -> bool:
        """One step on the way of `version` to `current`; whether it is there. Raises what refused it; `target` is empty then."""
        began = self.clock()
        if self.coming(project_key) != version:
            self._withdraw(project_key)
        if self.coming(project_key) is None:
            self.ledger.change(project_key, lambda known: replace(known, target=version))
        self._pursued[project_key] = version
        try:
            standing = self._standings[project_key] = self._ask(project_key, version, now)
        except UNUSABLE:
            self._withdraw(project_key)
            raise
        self._put_aside(project_key, version, aside=standing.aside)
        if not standing.done or now < self.served(project_key).since:
            return False
        # What is broken must not be told of for longer; else all replicas change at one moment, which is still to come.
        now += max(0.0, self.clock() - began)  # predictors that do not answer take their time
        since = now if project_key in self._falling else now + self.rollout.flip_seconds
        self.ledger.change(
            project_key,
            lambda known: Served(
                current=version, previous=known.current, since=since, why=why, pinned=pinned
            ),
        )
        self._standings.pop(project_key, None)
        self._falling.discard(project_key)
        return True

    def _put_aside(self, project_key: str, version: str, *, aside: bool) -> None:
        """Take the target out of the table, or put it back."""
        if aside:
            self._aside[project_key] = version
        else:
            self._aside.pop(project_key, None)
        target = None if aside else version
        if self.served(project_key).target != target:
            self.ledger.change(project_key, lambda known: replace(known, target=target))

    def _ask(self, project_key: str, version: str, now: float) -> Standing:
        """Have the rollout go on. Raises UNUSABLE, StoreError; other trouble passes, and is a standing."""
        return _passing(lambda: self.rollout.advance(project_key, version, now))

    def _check(self, project_key: str, version: str) -> Standing:
        """Whether what serves can be answered for. Raises as `_ask` does."""
        return _passing(lambda: self.rollout.check(project_key, version))

    def _withdraw(self, project_key: str) -> None:
        coming, is_target = self.coming(project_key), self.served(project_key).target is not None
        self._standings.pop(project_key, None)
        self._aside.pop(project_key, None)
        if coming is not None:
            self.rollout.withdraw(project_key, coming)
        if is_target:
            self.ledger.change(project_key, lambda known: replace(known, target=None))


def _passing(ask: Callable[[], Standing]) -> Standing:
    try:
        return ask()
    except (StoreError, EngineError):
        raise
    except FitloopError as error:
        return Standing(done=False, reason=str(error), blocked=True)
