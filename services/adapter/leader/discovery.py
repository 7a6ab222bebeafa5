"""Projects that Label Studio reported, or that a command waits for, and that are not connected yet.

Project ids in events are not authenticated, so few are kept and few are looked up at a time. A project that Label Studio
reports missing twice is dropped; one that was connected before is looked up again from time to time, because a command may
wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.core.retry import Backoff

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

    def due_times(self) -> list[float]:
        """Return when the next lookups are due."""
        waiting = [one.backoff.until for one in self.waiting.values()]
        return waiting + [backoff.until for backoff in self.removed.values()]
