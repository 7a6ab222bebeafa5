"""Encoders that wait to be loaded, one after the other in one thread: two loads at once would take twice the memory."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, Protocol, TypeVar

from services.core.errors import Overloaded
from services.engine.loading import EncoderKey

MAX_QUEUED: Final = 8
"""Loads that requests may wait behind."""
MAX_QUEUED_PER_PROJECT: Final = 2
"""Of one project: the served version's, and the next or the previous one's."""


class Queued(Protocol):
    """What waits."""

    key: EncoderKey
    project_key: str
    """Whose request began the load."""


_Entry = TypeVar("_Entry", bound=Queued)


class LoadQueue(Generic[_Entry]):
    """First in, first out. Its owner calls all methods with `lock` held, except `close`."""

    def __init__(self, load: Callable[[_Entry], None], lock: threading.Lock) -> None:
        """`load` blocks, and must not raise."""
        self._load = load
        self._lock = lock
        self._entries: deque[_Entry] = deque()
        self._is_loading = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="load")

    def check_room(self, key: EncoderKey, project_key: str) -> None:
        """Raise Overloaded if a request would have to wait behind too many loads, or its project has too many of them."""
        own = sum(entry.project_key == project_key for entry in self._entries)
        if len(self._entries) >= MAX_QUEUED or own >= MAX_QUEUED_PER_PROJECT:
            raise Overloaded(f"{len(self._entries)} loads are queued before {key}: try again in a moment.")

    def add(self, entry: _Entry) -> None:
        """Load the entry after those that wait."""
        self._entries.append(entry)
        if not self._is_loading:
            self._is_loading = True
            self._thread.submit(self._work)

    def drop(self, entry: _Entry) -> bool:
        """Return whether the entry was still waiting; then it is not loaded."""
        if entry not in self._entries:
            return False
        self._entries.remove(entry)
        return True

    def drop_all(self) -> list[_Entry]:
        """Load none of those that wait, and return them."""
        dropped = list(self._entries)
        self._entries.clear()
        return dropped

    def close(self) -> None:
        """Wait for the current load."""
        self._thread.shutdown()

    def _work(self) -> None:
        while entry := self._next():
            self._load(entry)

    def _next(self) -> _Entry | None:
        with self._lock:
            self._is_loading = bool(self._entries)
            return self._entries.popleft() if self._entries else None
