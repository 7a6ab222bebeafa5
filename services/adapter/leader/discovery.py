"""Projects that Label Studio reported, or that a command waits for, and that are not connected yet.

Project ids in events are not authenticated, so few are kept and few are looked up at a time. A project that Label Studio
reports missing twice is dropped; one that was connected before is looked up again from time to time, because a command may
wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

import structlog

from services.adapter.leader.workers import Finished, Workers
from services.adapter.state.documents import NotLeading
from services.adapter.training.index_updater import LabelSource
from services.core.domain import Counts, Project
from services.core.errors import FitloopError, LabelStudioNotFound, LabelStudioUnreachable
from services.core.retry import Backoff, CircuitBreaker
from services.core.telemetry.logs import safe_traceback, unexpected_error_message

log = structlog.get_logger()

MAX_WAITING: Final = 100
_MAX_AT_ONCE: Final = 3


@dataclass(slots=True)
class Candidate:
    """A project that is not connected yet."""

    backoff: Backoff = field(default_factory=Backoff)
    missing_in_a_row: int = 0
    """How many times in a row Label Studio reported it missing."""


@dataclass(slots=True)
class DiscoveryQueue:
    """All candidates, by project id."""

    waiting: dict[int, Candidate] = field(default_factory=dict)
    removed: dict[int, Backoff] = field(default_factory=dict)
    """Projects that were connected until Label Studio no longer had them."""

    def add(self, project_id: int) -> None:
        """Add a project that an event or /setup named. A full queue drops it: /setup comes again before each task."""
        if len(self.waiting) < MAX_WAITING:
            self.waiting.setdefault(project_id, Candidate())

    def add_commanded(self, project_ids: Iterable[int], now: float) -> None:
        """Add projects that commands wait for, and removed ones that are due for another lookup."""
        due = [project_id for project_id, backoff in self.removed.items() if backoff.until <= now]
        for project_id in due:
            self.removed[project_id].failed(now)
        for project_id in [*due, *(wanted for wanted in project_ids if wanted not in self.removed)]:
            self.add(project_id)

    def due(self, now: float) -> list[int]:
        """Return the few to look up now, longest due first."""
        due = [project_id for project_id, one in self.waiting.items() if one.backoff.until <= now]
        return sorted(due, key=lambda project_id: self.waiting[project_id].backoff.until)[:_MAX_AT_ONCE]

    def failed(self, project_id: int, now: float, *, missing: bool = False) -> float:
        """Note that the project could not be read; return the seconds until the next try."""
        candidate = self.waiting[project_id]
        candidate.missing_in_a_row = candidate.missing_in_a_row + 1 if missing else 0
        return candidate.backoff.failed(now)

    def is_missing(self, project_id: int) -> bool:
        """Return whether Label Studio reported it missing twice."""
        return self.waiting[project_id].missing_in_a_row > 1

    def was_connected(self, project_id: int) -> bool:
        """Return whether the project was connected before, so that its commands are genuine."""
        return project_id in self.removed

    def remove(self, project_id: int) -> None:
        self.waiting.pop(project_id, None)

    def mark_removed(self, project_id: int, now: float) -> None:
        """Note that Label Studio no longer has a connected project."""
        self.remove(project_id)
        if project_id not in self.removed:
            self.removed[project_id] = Backoff(first=60.0, longest=3600.0)
            self.removed[project_id].failed(now)

    def mark_connected(self, project_id: int) -> None:
        self.remove(project_id)
        self.removed.pop(project_id, None)

    def due_times(self, is_busy: Callable[[int], bool]) -> list[float]:
        """Return when the next lookups are due, except those that are in progress."""
        waiting = [one.backoff.until for number, one in self.waiting.items() if not is_busy(number)]
        return waiting + [backoff.until for backoff in self.removed.values()]


class DiscoveryResults(Protocol):
    """What is done with the results of lookups."""

    def connect(self, project: Project, now: float) -> None:
        """Connect a project that Label Studio has. Raises StoreError."""
        ...

    def missing(self, project_id: int, reason: str, *, was_connected: bool) -> None:
        """Forget a project that Label Studio reported missing twice."""
        ...

    def unreadable(self, project_id: int, problem: str) -> None:
        """Report why a project could not be looked up; it is retried."""
        ...


class Discovery:
    """Looks up projects in workers. Only the leader's thread may call it."""

    def __init__(
        self,
        source: LabelSource,
        workers: Workers,
        breaker: CircuitBreaker,
        clock: Callable[[], float],
        results: DiscoveryResults,
    ) -> None:
        self._source = source
        self._workers = workers
        self._breaker = breaker
        self._clock = clock
        self._results = results
        self._queue = DiscoveryQueue()
        self.add, self.remove = self._queue.add, self._queue.remove
        self.mark_removed = self._queue.mark_removed

    def step(self, commanded: Iterable[int], now: float) -> None:
        """Look up what is due; `commanded`: unknown projects that commands wait for."""
        self._queue.add_commanded(commanded, now)
        for project_id in self._queue.due(now):
            key = ("discover", project_id)
            if not self._workers.is_busy(key) and self._breaker.allow(now):
                work = partial(self._source.project, project_id)
                self._workers.submit(key, work, partial(self._done, project_id))

    def next_at(self) -> float:
        """Return when the next lookup is due; infinity if none is, or while Label Studio does not answer."""
        times = self._queue.due_times(lambda number: self._workers.is_busy(("discover", number)))
        due_at = min(times, default=float("inf"))
        return max(due_at, self._breaker.backoff.until) if self._breaker.is_open else due_at

    def _done(self, project_id: int, finished: Finished[tuple[Project, Counts]]) -> None:
        """Connect a project that Label Studio has, or note why it is not connected."""
        now = self._clock()
        if isinstance(finished.error, LabelStudioUnreachable):
            self._breaker.failed(now)
        else:
            self._breaker.succeeded()
        if project_id not in self._queue.waiting:
            return  # it was connected or removed meanwhile
        try:
            self._results.connect(finished.result()[0], now)
            self._queue.mark_connected(project_id)
        except LabelStudioNotFound as error:
            self._queue.failed(project_id, now, missing=True)
            if self._queue.is_missing(project_id):
                was_connected = self._queue.was_connected(project_id)
                self._results.missing(project_id, str(error), was_connected=was_connected)
        except NotLeading:
            raise
        except FitloopError as error:
            self._failed(project_id, str(error), now)
        except Exception as error:  # noqa: BLE001  # a bug that one project triggers must not stop the others
            log.error("project_unreadable", project=project_id, frames=safe_traceback(error))
            self._failed(project_id, unexpected_error_message(error), now)

    def _failed(self, project_id: int, problem: str, now: float) -> None:
        delay = self._queue.failed(project_id, now)
        log.warning("project_unreadable", project=project_id, reason=problem, retry_seconds=delay)
        self._results.unreadable(project_id, problem)
