"""serving.json in the hands of the one process that may write it: read at the start of a term, then kept in memory.

`term` is one more than any table was ever written in, and stands in all that is written, so that readers pass over what
a replaced leader writes late; `mend` writes the table again where such a write stands.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.metrics import leader
from services.adapter.ports import Rollout, RolloutStatus
from services.adapter.state.documents import NotLeading
from services.core.domain import Served, Serving
from services.core.errors import (
    CorruptVersion,
    EngineError,
    FitloopError,
    NotFound,
    StoreError,
    UnknownFormat,
)
from services.core.registry import Registry
from services.core.telemetry import metrics

log = structlog.get_logger()

_REPAIR_SECONDS: Final = 3.0


class StaleTerm(NotLeading):
    """Another process has written in a later term: what is known here is of yesterday."""


@dataclass(slots=True)
class ServingTableWriter:
    """The table of one term."""

    registry: Registry
    term: int = 0
    """0 before the table was read."""
    _table: Serving | None = None
    _repair_at: float = 0.0
    _trouble: str = ""

    def served(self, project_key: str) -> Served:
        """What the project serves. Raises StoreError, Overtaken."""
        return self.table().projects.get(project_key, Served())

    def table(self) -> Serving:
        """The table, in this term. Raises StoreError, Overtaken."""
        if self._table is None:
            found = self.registry.serving()
            self.term = self.term or self.registry.last_term() + 1
            if found.term > self.term:
                raise StaleTerm(
                    f"Another adapter leads in term {found.term}, and this one led in {self.term}."
                )
            self._table = replace(found, term=self.term)
            metrics.set_generation(found.generation)
        return self._table

    def propose(self, project_key: str, change: Callable[[Served], Served]) -> None:
        """Write what the project serves. Raises StoreError."""
        projects = self.table().projects
        self._write({**projects, project_key: change(projects.get(project_key, Served()))})

    def drop_project(self, project_id: int, but: str = "") -> None:
        """Label Studio has deleted the project: nothing is served for it, nor for those that had its number before.

        `but`: the key of the project that has the number now. Raises StoreError.
        """
        projects = self.table().projects
        gone = {key for key in projects if key.partition("-")[0] == str(project_id) and key != but}
        if gone:
            self._write({key: served for key, served in projects.items() if key not in gone})
            log.info("project_dropped", project=project_id)

    def repair(self, now: float) -> None:
        """Every few seconds: have serving.json say what is known here. Raises Overtaken; other trouble is tried again."""
        if now < self._repair_at:
            return
        self._repair_at = now + _REPAIR_SECONDS
        trouble = ""
        try:
            self._repair()
        except NotLeading:
            raise
        except UnknownFormat as error:
            raise StaleTerm(f"Another adapter leads, of a newer release: {error}") from error
        except StoreError as error:
            trouble = str(error)
            if trouble != self._trouble:  # said once, and not every few seconds
                log.warning("serving_table_check_failed", reason=trouble)
        self._trouble = trouble

    def _repair(self) -> None:
        own, seen = self.table(), self.registry.read_current_table()
        if seen is None or (seen.term, seen.generation) != (own.term, own.generation):
            if seen and seen.term > own.term:
                raise StaleTerm(f"Another adapter leads in term {seen.term}, and this one led in {own.term}.")
            self._write(own.projects)

    def _write(self, projects: dict[str, Served]) -> None:
        table = self.table()
        changed = replace(table, generation=table.generation + 1, projects=projects)
        self._table = None  # a write that fails half-way may have made a generation: then it is read again
        self.registry.write_serving(changed)
        self._table = changed
        metrics.set_generation(changed.generation)


UNUSABLE = (EngineError, CorruptVersion, NotFound)
"""What says that a version is bad; any other error is trouble that passes."""


@dataclass(slots=True)
class RolloutTracker:
    """One a project."""

    table: ServingTableWriter
    rollout: Rollout
    clock: Callable[[], float]
    _statuses: dict[str, RolloutStatus] = field(default_factory=dict)
    _wanted: dict[str, str] = field(default_factory=dict)
    """By project, the target that somebody still wanted in this step."""
    _deferred: dict[str, str] = field(default_factory=dict)
    """By project, a version that is wanted and for a while no target, so that what the others wait for comes without it."""
    _trouble: str = ""

    def target(self, project_key: str) -> str | None:
        """The version that is on its way: the project's target, or one that was set aside."""
        return self.table.served(project_key).target or self._deferred.get(project_key)

    def status(self, project_key: str) -> RolloutStatus | None:
        """How far that is; None where there is none."""
        return self._statuses.get(project_key) if self.target(project_key) else None

    def poll(self, now: float) -> None:
        """See to rollouts that nobody asks about any more. Trouble passes: the next call looks again."""
        trouble = ""
        try:
            self.rollout.poll(now)
        except FitloopError as error:
            trouble = str(error)
            if trouble != self._trouble:  # said once, and not at each tick
                log.warning("rollout_poll_failed", reason=trouble)
        self._trouble = trouble

    def is_changing(self, project_key: str, now: float) -> bool:
        """Whether a version is on its way, or told of in a moment."""
        served = self.table.served(project_key)
        return served.target is not None or now < served.since

    def cancel_unwanted(self, project_key: str) -> None:
        """At the end of a step: a target that nobody wanted in it is none any more."""
        if self.target(project_key) != self._wanted.pop(project_key, None):
            self.withdraw(project_key)

    def advance(
        self, project_key: str, version: str, why: str, now: float, *, pinned: bool, immediately: bool = False
    ) -> bool:
        """One step on the way of `version` to `current`; whether it is there. Raises what refused it; `target` is empty then.

        `at_once`: what serves is broken, and must not be told of for longer; else all replicas change at one moment to come.
        """
        began = self.clock()
        if self.target(project_key) != version:
            self.withdraw(project_key)
        if self.target(project_key) is None:
            self.table.propose(project_key, lambda known: replace(known, target=version, target_since=began))
        self._wanted[project_key] = version
        try:
            standing = self._statuses[project_key] = self._ask(project_key, version, now)
        except UNUSABLE:
            self.withdraw(project_key)
            raise
        self._defer(project_key, version, deferred=standing.deferred)
        if not standing.done or now < self.table.served(project_key).since:
            return False
        now += max(0.0, self.clock() - began)  # predictors that do not answer take their time
        since = now if immediately else now + self.rollout.flip_seconds
        wanted_since = self.table.served(project_key).target_since
        self.table.propose(
            project_key,
            lambda known: Served(
                current=version, previous=known.current, since=since, why=why, pinned=pinned
            ),
        )
        if wanted_since:
            leader.rolled_out(now - wanted_since)
        self._statuses.pop(project_key, None)
        return True

    def _defer(self, project_key: str, version: str, *, deferred: bool) -> None:
        """Take the target out of the table, or put it back."""
        if deferred:
            self._deferred[project_key] = version
        else:
            self._deferred.pop(project_key, None)
        target = None if deferred else version
        if self.table.served(project_key).target != target:
            self.table.propose(project_key, lambda known: replace(known, target=target))

    def _ask(self, project_key: str, version: str, now: float) -> RolloutStatus:
        """Have the rollout go on. Raises UNUSABLE, StoreError; other trouble passes, and is a standing."""
        return _tolerate_outage(lambda: self.rollout.advance(project_key, version, now))

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Whether what serves can be answered for. Raises as `_ask` does."""
        return _tolerate_outage(lambda: self.rollout.check(project_key, version))

    def withdraw(self, project_key: str) -> None:
        """Nothing is on its way to the project any more."""
        coming, is_target = self.target(project_key), self.table.served(project_key).target is not None
        self._statuses.pop(project_key, None)
        self._deferred.pop(project_key, None)
        if coming is not None:
            self.rollout.withdraw(project_key, coming)
        if is_target:
            self.table.propose(project_key, lambda known: replace(known, target=None, target_since=0.0))


def _tolerate_outage(ask: Callable[[], RolloutStatus]) -> RolloutStatus:
    try:
        return ask()
    except (StoreError, EngineError):
        raise
    except FitloopError as error:
        return RolloutStatus(done=False, reason=str(error), blocked=True)
