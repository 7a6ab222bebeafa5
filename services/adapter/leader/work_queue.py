"""The work queue of project ids: each has the time at which it is due next. Pure; the earliest time of several counts."""

from __future__ import annotations

import heapq
from collections.abc import Collection
from dataclasses import dataclass, field


@dataclass(slots=True)
class WorkQueue:
    """Due times in seconds since the epoch, by project id."""

    _due: dict[int, float] = field(default_factory=dict)
    _heap: list[tuple[float, int]] = field(default_factory=list)
    """Every time that was added; those that `_due` no longer has are skipped."""

    def add(self, project_id: int, at: float) -> None:
        """Make the project due at `at`, or at its earlier due time."""
        if at < self._due.get(project_id, float("inf")):
            self._due[project_id] = at
            heapq.heappush(self._heap, (at, project_id))

    def remove(self, project_id: int) -> None:
        self._due.pop(project_id, None)

    def take(self, now: float, first: Collection[int] = ()) -> int | None:
        """Remove and return a project that is due: one of `first` before the others, then the longest due; None if none is."""
        for project_id in first:
            if self._due.get(project_id, float("inf")) <= now:
                del self._due[project_id]
                return project_id
        if self.next_at() > now:
            return None
        _, project_id = heapq.heappop(self._heap)
        del self._due[project_id]
        return project_id

    def next_at(self) -> float:
        """Return when the next project is due; infinity if none ever is."""
        while self._heap and self._due.get(self._heap[0][1]) != self._heap[0][0]:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else float("inf")
