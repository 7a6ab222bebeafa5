"""Projects that Label Studio told of, or that somebody has a command for, and that are not yet looked after.

Anybody may invent numbers, so few are kept and few are asked for at a time. One that Label Studio twice said not to
have is dropped; one that we did look after is asked for again from time to time, because a command may wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.adapter.training.label_reader import Backoff

MAX_WAITING: Final = 100
_MAX_AT_ONCE: Final = 3


@dataclass(slots=True)
class Candidate:
    """One of them."""

    backoff: Backoff = field(default_factory=Backoff)
    missing_in_a_row: int = 0
    """How many times in a row Label Studio said not to have it."""


@dataclass(slots=True)
class DiscoveryQueue:
    """All of them, by project id."""

    waiting: dict[int, Candidate] = field(default_factory=dict)
    gone: dict[int, Backoff] = field(default_factory=dict)
    """Projects that were looked after until Label Studio no longer had them."""

    def add(self, project_id: int) -> None:
        """Told of, by an event or /setup. Beyond what is kept it is left out: /setup comes again before each task."""
        if len(self.waiting) < MAX_WAITING:
            self.waiting.setdefault(project_id, Candidate())

    def add_commanded(self, project_ids: Iterable[int], now: float) -> None:
        """Those that commands wait for, and those that have been gone for a while."""
        due = [project_id for project_id, backoff in self.gone.items() if backoff.until <= now]
        for project_id in due:
            self.gone[project_id].failed(now)
        for project_id in [*due, *(wanted for wanted in project_ids if wanted not in self.gone)]:
            if len(self.waiting) < MAX_WAITING:
                self.waiting.setdefault(project_id, Candidate())

    def due(self, now: float) -> list[int]:
        """The few that are asked for now: those that were due first."""
        due = [project_id for project_id, one in self.waiting.items() if one.backoff.until <= now]
        return sorted(due, key=lambda project_id: self.waiting[project_id].backoff.until)[:_MAX_AT_ONCE]

    def failed(self, project_id: int, now: float, *, missing: bool = False) -> float:
        """It could not be read; the seconds until it is tried again."""
        arrival = self.waiting[project_id]
        arrival.missing_in_a_row = arrival.missing_in_a_row + 1 if missing else 0
        return arrival.backoff.failed(now)

    def is_missing(self, project_id: int) -> bool:
        """Whether Label Studio twice said not to have it."""
        return self.waiting[project_id].missing_in_a_row > 1

    def was_connected(self, project_id: int) -> bool:
        """Whether it was looked after, so that its commands are somebody's."""
        return project_id in self.gone

    def remove(self, project_id: int) -> None:
        """It is looked after now, or not there."""
        self.waiting.pop(project_id, None)

    def mark_gone(self, project_id: int, now: float) -> None:
        """One that was looked after is gone."""
        self.remove(project_id)
        if project_id not in self.gone:
            self.gone[project_id] = Backoff(first=60.0, most=3600.0)
            self.gone[project_id].failed(now)

    def mark_connected(self, project_id: int) -> None:
        """It is looked after."""
        self.remove(project_id)
        self.gone.pop(project_id, None)

    def due_times(self) -> list[float]:
        """When the next ones are due."""
        waiting = [one.backoff.until for one in self.waiting.values()]
        return waiting + [backoff.until for backoff in self.gone.values()]
