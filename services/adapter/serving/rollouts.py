"""One project's row of the serving table, and the rollout of its target.

A version is `target` first, and `current` once its rollout is done, which may take many steps: nothing here waits. A problem
that is not the version's fault is in the rollout's status; the table names the version as target all the while, unless the
rollout defers it. Only the controller's thread may call this.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import structlog

from services.adapter.metrics import leader_metrics
from services.adapter.ports import Rollout, RolloutStatus
from services.adapter.serving.table import ServingTableWriter
from services.core.domain import Served
from services.core.errors import UNUSABLE_VERSION, EngineError, FitloopError, StoreError
from services.core.retry import LogOnce

log = structlog.get_logger()


@dataclass(slots=True)
class ProjectRollout:
    """What one project serves, and what is being rolled out to it."""

    project_key: str
    table: ServingTableWriter
    rollout: Rollout
    clock: Callable[[], float] = time.time
    _status: RolloutStatus | None = None
    _wanted: str | None = None
    """The target that was still wanted in this step."""
    _deferred: str | None = None
    """A wanted version that is no target for a while, so that what other projects wait for comes first."""

    @property
    def served(self) -> Served:
        """The project's row. Raises StoreError."""
        return self.table.served(self.project_key)

    @property
    def target(self) -> str | None:
        """The version being rolled out: the project's target, or a deferred one."""
        return self.served.target or self._deferred

    @property
    def status(self) -> RolloutStatus | None:
        """The status of that rollout; None if there is none."""
        return self._status if self.target else None

    @property
    def is_blocked(self) -> bool:
        return self.status is not None and self.status.blocked

    def is_changing(self, now: float) -> bool:
        """Return whether a version is being rolled out, or takes effect in a moment."""
        return self.target is not None or now < self.served.since

    def advance(
        self,
        version: str,
        why: str,
        now: float,
        *,
        pinned: bool,
        immediately: bool = False,
        encoder: str = "",
    ) -> bool:
        """Take the rollout of `version` one step further; return whether it is current. Raises UNUSABLE_VERSION, and then withdraws it.

        `encoder`: the digest of its shared encoder, "" for a whole model. `immediately`: the served version is broken and must be replaced now; otherwise all replicas switch at one moment to come.
        """
        if self.target != version:
            self.withdraw()
        if self.target is None:
            self._update(lambda known: replace(known, target=version, target_since=now))
        self._wanted = version
        try:
            self._status = _tolerate_outage(
                lambda: self.rollout.advance(self.project_key, version, now, encoder)
            )
        except UNUSABLE_VERSION:
            self.withdraw()
            raise
        self._defer(version, deferred=self._status.deferred)
        if not self._status.done or now < self.served.since:
            return False
        self._make_current(version, why, max(now, self.clock()), pinned=pinned, immediately=immediately)
        return True

    def check(self, version: str) -> RolloutStatus:
        """Return whether the served version can answer requests. Raises UNUSABLE_VERSION, StoreError."""
        return _tolerate_outage(lambda: self.rollout.check(self.project_key, version))

    def withdraw(self) -> None:
        """Stop rolling out whatever is being rolled out."""
        target, is_target = self.target, self.served.target is not None
        self._status = self._deferred = None
        if target is not None:
            self.rollout.withdraw(self.project_key, target)
        if is_target:
            self._update(lambda known: replace(known, target=None, target_since=0.0))

    def cancel_unwanted(self) -> None:
        """At the end of a step, withdraw a target that was not wanted in it."""
        wanted, self._wanted = self._wanted, None
        if self.target != wanted:
            self.withdraw()

    def pin(self, why: str) -> None:
        """Serve nothing else until `unpin`."""
        if not self.served.pinned:
            self._update(lambda known: replace(known, pinned=True, why=why))

    def unpin(self) -> None:
        """Let the gate decide again."""
        if self.served.pinned:
            self._update(lambda known: replace(known, pinned=False))

    def _make_current(self, version: str, why: str, now: float, *, pinned: bool, immediately: bool) -> None:
        since = now if immediately else now + self.rollout.flip_seconds
        wanted_since = self.served.target_since
        self._update(
            lambda known: replace(
                known,
                current=version,
                previous=known.current,
                target=None,
                target_since=0.0,
                since=since,
                why=why,
                pinned=pinned,
            )
        )
        if wanted_since:
            leader_metrics.observe_rollout(now - wanted_since)
        self._status = None

    def _defer(self, version: str, *, deferred: bool) -> None:
        """Take the target out of the table, or put it back."""
        self._deferred = version if deferred else None
        target = None if deferred else version
        if self.served.target != target:
            self._update(lambda known: replace(known, target=target))

    def _update(self, change: Callable[[Served], Served]) -> None:
        self.table.update_row(self.project_key, change)


@dataclass(slots=True)
class RolloutPoller:
    """Has rollouts finished or aborted that no project is waiting for."""

    rollout: Rollout
    _logged: LogOnce = field(default_factory=LogOnce)

    def poll(self, now: float) -> None:
        """Do so once. Errors are transient: the next call retries."""
        try:
            self.rollout.poll(now)
        except FitloopError as error:
            if self._logged.is_new(str(error)):
                log.warning("rollout_poll_failed", reason=str(error))
        else:
            self._logged.resolved()


def _tolerate_outage(call: Callable[[], RolloutStatus]) -> RolloutStatus:
    """Return the status that `call` returns; a transient error is a blocked status. Raises UNUSABLE_VERSION, StoreError."""
    try:
        return call()
    except (StoreError, EngineError):
        raise
    except FitloopError as error:
        return RolloutStatus(done=False, reason=str(error), blocked=True)
