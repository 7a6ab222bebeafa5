"""Projects that Label Studio told of, or that somebody has a command for, and that are not yet looked after.

Anybody may invent numbers, so few are kept and few are asked for at a time. One that Label Studio twice said not to
have is dropped; one that we did look after is asked for again from time to time, because a command may wait for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from services.adapter.training.watch import Backoff

MOST: Final = 100
_AT_ONCE: Final = 3


@dataclass(slots=True)
class Arrival:
    """One of them."""

    backoff: Backoff = field(default_factory=Backoff)
    missed: int = 0
    """How many times in a row Label Studio said not to have it."""


@dataclass(slots=True)
class Arrivals:
    """All of them, by project id."""

    waiting: dict[int, Arrival] = field(default_factory=dict)
    gone: dict[int, Backoff] = field(default_factory=dict)
    """Projects that were looked after until Label Studio no longer had them."""

    def add(self, project_id: int) -> None:
        """Told of, by an event or /setup. Beyond what is kept it is left out: /setup comes again before each task."""
        if len(self.waiting) < MOST:
            self.waiting.setdefault(project_id, Arrival())

    def ask(self, project_ids: Iterable[int], now: float) -> None:
        """Those that commands wait for, and those that have been gone for a while."""
        due = [project_id for project_id, backoff in self.gone.items() if backoff.until <= now]
        for project_id in due:
            self.gone[project_id].failed(now)
        for project_id in [*due, *(wanted for wanted in project_ids if wanted not in self.gone)]:
            if len(self.waiting) < MOST:
                self.waiting.setdefault(project_id, Arrival())

    def due(self, now: float) -> list[int]:
        """The few that are asked for now: those that were due first."""
        due = [project_id for project_id, one in self.waiting.items() if one.backoff.until <= now]
        return sorted(due, key=lambda project_id: self.waiting[project_id].backoff.until)[:_AT_ONCE]

    def failed(self, project_id: int, now: float, *, missing: bool = False) -> float:
        """It could not be read; the seconds until it is tried again."""
        arrival = self.waiting[project_id]
        arrival.missed = arrival.missed + 1 if missing else 0
        return arrival.backoff.failed(now)

    def is_missing(self, project_id: int) -> bool:
        """Whether Label Studio twice said not to have it."""
        return self.waiting[project_id].missed > 1

    def was_known(self, project_id: int) -> bool:
        """Whether it was looked after, so that its commands are somebody's."""
        return project_id in self.gone

    def leave(self, project_id: int) -> None:
        """It is looked after now, or not there."""
        self.waiting.pop(project_id, None)

    def lost(self, project_id: int, now: float) -> None:
        """One that was looked after is gone."""
        self.leave(project_id)
        if project_id not in self.gone:
            self.gone[project_id] = Backoff(first=60.0, most=3600.0)
            self.gone[project_id].failed(now)

    def arrived(self, project_id: int) -> None:
        """It is looked after."""
        self.leave(project_id)
        self.gone.pop(project_id, None)

    def next_at(self) -> list[float]:
        """When the next ones are due."""
        waiting = [one.backoff.until for one in self.waiting.values()]
        return waiting + [backoff.until for backoff in self.gone.values()]
