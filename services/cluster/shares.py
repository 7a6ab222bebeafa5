"""Shares of a limited number of requests: no project takes what another one needs.

A project may have as many requests in flight as there are free places, so that one alone gets a half and two get a third each.
Each leaves about half of the places that it found free: of 256, one is left for the ninth project. Beyond its share a request
waits, a bounded time in a bounded queue; a place that becomes free goes to the waiting project that has the fewest. Not
thread-safe: for one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from services.core.errors import Overloaded

PLACES: Final = 256
"""Requests to the predictors in flight, each on a connection of its own."""
MAX_WAITING: Final = 64
"""Requests of one project that may wait."""
WAIT_SECONDS: Final = 5.0


def may_begin(in_flight: int, total: int, places: int) -> bool:
    """Return whether a project with so many requests in flight, of so many in total, may begin another one."""
    return in_flight < places - total


def next_project(in_flight: Mapping[str, int], waiting: Iterable[str], places: int) -> str | None:
    """Return the waiting project that may begin, the one with the fewest requests in flight first; None if none may."""
    total = sum(in_flight.values())
    first = min(waiting, key=lambda project: in_flight.get(project, 0), default=None)
    return first if first is not None and may_begin(in_flight.get(first, 0), total, places) else None


@dataclass(slots=True)
class RequestShares:
    """The places, and the requests that wait for one."""

    places: int = PLACES
    max_waiting: int = MAX_WAITING
    wait_seconds: float = WAIT_SECONDS
    _in_flight: Counter[str] = field(default_factory=Counter)
    _waiting: dict[str, deque[asyncio.Future[None]]] = field(default_factory=dict)

    @contextlib.asynccontextmanager
    async def place(self, project: str) -> AsyncIterator[None]:
        """Hold a place, once there is one for the project. Raises Overloaded."""
        if project in self._waiting or not self._may_begin(project):
            await self._wait(project)
        else:
            self._in_flight[project] += 1
        try:
            yield
        finally:
            self._release(project)

    def _may_begin(self, project: str) -> bool:
        return may_begin(self._in_flight[project], self._in_flight.total(), self.places)

    async def _wait(self, project: str) -> None:
        """Wait until a place was taken for this request. Raises Overloaded."""
        queue = self._waiting.setdefault(project, deque())
        if len(queue) >= self.max_waiting:
            raise Overloaded(
                f"{len(queue)} requests of this project wait for predictors, which is the most: try again in a moment."
            )
        turn = asyncio.get_running_loop().create_future()
        queue.append(turn)
        try:
            async with asyncio.timeout(self.wait_seconds):
                await turn
        except BaseException as error:
            self._give_up(project, turn)
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    f"All places for requests of this project were taken for {self.wait_seconds:g} s: its predictors answer too "
                    "slowly. Try again in a moment."
                ) from error
            raise

    def _give_up(self, project: str, turn: asyncio.Future[None]) -> None:
        """Leave the queue, or give back the place that was taken at the same moment."""
        queue = self._waiting.get(project)
        if queue and turn in queue:
            queue.remove(turn)
            if not queue:
                del self._waiting[project]
        elif turn.done() and not turn.cancelled():
            self._release(project)

    def _release(self, project: str) -> None:
        self._in_flight[project] -= 1
        if not self._in_flight[project]:
            del self._in_flight[project]
        while (found := next_project(self._in_flight, self._waiting, self.places)) is not None:
            self._begin_waiting(found)

    def _begin_waiting(self, project: str) -> None:
        queue = self._waiting[project]
        turn = queue.popleft()
        if not queue:
            del self._waiting[project]
        if not turn.done():  # else its client has gone, and leaves by itself
            self._in_flight[project] += 1
            turn.set_result(None)
