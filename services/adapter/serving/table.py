"""The serving table and the rollouts in it: which version each project serves, and which one is its target.

serving.json is written by the leader alone: read at the start of a term, then kept in memory. `term` is one more than any table
was ever written in, and is part of every write, so that readers ignore what a replaced leader writes late; `repair` writes the
table again over such a write. A version is `target` first, and `current` once its rollout is done. Only the controller's thread
may call this.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.metrics import leader_metrics
from services.adapter.ports import Rollout, RolloutStatus
from services.adapter.state.documents import NotLeading
from services.core.domain import Served, Serving
from services.core.errors import (
    UNUSABLE_VERSION,
    EngineError,
    FitloopError,
    StoreError,
    UnknownFormat,
)
from services.core.registry import Registry
from services.core.retry import LogOnce
from services.core.serving_table import ServingTableFile
from services.core.telemetry import metrics

log = structlog.get_logger()
_REPAIR_SECONDS: Final = 3.0


class StaleTerm(NotLeading):
    """Another process has written in a later term: this table is out of date."""


@dataclass(slots=True)
class ServingTableWriter:
    """The table of one term."""

    registry: Registry
    term: int = 0
    """0 before the table was read."""
    _file: ServingTableFile = field(init=False)
    _table: Serving | None = None
    _repair_at: float = 0.0
    _logged: LogOnce = field(default_factory=LogOnce)

    def __post_init__(self) -> None:
        self._file = ServingTableFile(self.registry.store)

    def served(self, project_key: str) -> Served:
        """Return the project's row. Raises StoreError, StaleTerm."""
        return self.table().projects.get(project_key, Served())

    def table(self) -> Serving:
        """Return the table, in this term. Raises StoreError, StaleTerm."""
        if self._table is None:
            found = self._file.newest()
            self.term = self.term or self._file.last_term(found) + 1
            if found.term > self.term:
                raise StaleTerm(
                    f"Another adapter leads in term {found.term}, and this one led in {self.term}."
                )
            self._table = replace(found, term=self.term)
            metrics.set_generation(found.generation)
        return self._table

    def propose(self, project_key: str, change: Callable[[Served], Served]) -> None:
        """Write a change of the project's row. Raises StoreError."""
        projects = self.table().projects
        self._write({**projects, project_key: change(projects.get(project_key, Served()))})

    def drop_project(self, project_id: int, but: str = "") -> None:
        """Drop the rows of a deleted project, and of those that had its id before. Raises StoreError.

        `but`: the key of the project that has the id now.
        """
        projects = self.table().projects
        dropped = {key for key in projects if key.partition("-")[0] == str(project_id) and key != but}
        if dropped:
            self._write({key: served for key, served in projects.items() if key not in dropped})
            log.info("project_dropped", project=project_id)

    def repair(self, now: float) -> None:
        """Every few seconds, rewrite serving.json if it differs from this table. Raises StaleTerm; other errors are retried."""
        if now < self._repair_at:
            return
        self._repair_at = now + _REPAIR_SECONDS
        try:
            self._repair()
        except NotLeading:
            raise
        except UnknownFormat as error:
            raise StaleTerm(f"Another adapter leads, of a newer release: {error}") from error
        except StoreError as error:
            if self._logged.is_new(str(error)):
                log.warning("serving_table_check_failed", reason=str(error))
        else:
            self._logged.resolved()

    def _repair(self) -> None:
        own, seen = self.table(), self._file.current()
        if seen is None or (seen.term, seen.generation) != (own.term, own.generation):
            if seen and seen.term > own.term:
                raise StaleTerm(f"Another adapter leads in term {seen.term}, and this one led in {own.term}.")
            self._write(own.projects)

    def _write(self, projects: dict[str, Served]) -> None:
        table = self.table()
        changed = replace(table, generation=table.generation + 1, projects=projects)
        self._table = None  # a write that fails half-way may have made a generation: then it is read again
        self._file.write(changed)
        self._table = changed
        metrics.set_generation(changed.generation)


@dataclass(slots=True)
class RolloutTracker:
    """The rollout of each project's target. It may take many steps, and nothing here waits.

    A problem that is not the version's fault is in its status; the table names the version as target all the while, unless the
    rollout defers it.
    """

    table: ServingTableWriter
    rollout: Rollout
    clock: Callable[[], float]
    _statuses: dict[str, RolloutStatus] = field(default_factory=dict)
    _wanted: dict[str, str] = field(default_factory=dict)
    """By project, the target that was still wanted in this step."""
    _deferred: dict[str, str] = field(default_factory=dict)
    """By project, a wanted version that is no target for a while, so that what other projects wait for comes first."""
    _logged: LogOnce = field(default_factory=LogOnce)

    def target(self, project_key: str) -> str | None:
        """Return the version being rolled out: the project's target, or a deferred one."""
        return self.table.served(project_key).target or self._deferred.get(project_key)

    def status(self, project_key: str) -> RolloutStatus | None:
        """Return the status of that rollout; None if there is none."""
        return self._statuses.get(project_key) if self.target(project_key) else None

    def poll(self, now: float) -> None:
        """Finish or abort rollouts that no project is waiting for. Errors are transient: the next call retries."""
        try:
            self.rollout.poll(now)
        except FitloopError as error:
            if self._logged.is_new(str(error)):
                log.warning("rollout_poll_failed", reason=str(error))
        else:
            self._logged.resolved()

    def is_changing(self, project_key: str, now: float) -> bool:
        """Return whether a version is being rolled out, or takes effect in a moment."""
        served = self.table.served(project_key)
        return served.target is not None or now < served.since

    def cancel_unwanted(self, project_key: str) -> None:
        """At the end of a step, withdraw a target that was not wanted in it."""
        if self.target(project_key) != self._wanted.pop(project_key, None):
            self.withdraw(project_key)

    def advance(
        self, project_key: str, version: str, why: str, now: float, *, pinned: bool, immediately: bool = False
    ) -> bool:
        """Take the rollout of `version` one step further; return whether it is current. Raises UNUSABLE_VERSION, and then withdraws it.

        `immediately`: the served version is broken and must be replaced now; otherwise all replicas switch at one moment to come.
        """
        if self.target(project_key) != version:
            self.withdraw(project_key)
        if self.target(project_key) is None:
            self.table.propose(project_key, lambda known: replace(known, target=version, target_since=now))
        self._wanted[project_key] = version
        try:
            status = _tolerate_outage(lambda: self.rollout.advance(project_key, version, now))
        except UNUSABLE_VERSION:
            self.withdraw(project_key)
            raise
        self._statuses[project_key] = status
        self._defer(project_key, version, deferred=status.deferred)
        if not status.done or now < self.table.served(project_key).since:
            return False
        now = max(now, self.clock())  # since the step began, predictors may have taken time to answer
        since = now if immediately else now + self.rollout.flip_seconds
        wanted_since = self.table.served(project_key).target_since
        self.table.propose(
            project_key,
            lambda known: replace(
                known,
                current=version,
                previous=known.current,
                target=None,
                target_since=0.0,
                since=since,
                why=why,
                pinned=pinned,
            ),
        )
        if wanted_since:
            leader_metrics.observe_rollout(now - wanted_since)
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

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Return whether the served version can answer requests. Raises UNUSABLE_VERSION, StoreError."""
        return _tolerate_outage(lambda: self.rollout.check(project_key, version))

    def withdraw(self, project_key: str) -> None:
        """Stop rolling out whatever is being rolled out to the project."""
        target, is_target = self.target(project_key), self.table.served(project_key).target is not None
        self._statuses.pop(project_key, None)
        self._deferred.pop(project_key, None)
        if target is not None:
            self.rollout.withdraw(project_key, target)
        if is_target:
            self.table.propose(project_key, lambda known: replace(known, target=None, target_since=0.0))


def _tolerate_outage(call: Callable[[], RolloutStatus]) -> RolloutStatus:
    """Return the status that `call` returns; a transient error is a blocked status. Raises UNUSABLE_VERSION, StoreError."""
    try:
        return call()
    except (StoreError, EngineError):
        raise
    except FitloopError as error:
        return RolloutStatus(done=False, reason=str(error), blocked=True)
