"""Worker threads for what is slow: requests to Label Studio, and reading or deleting many objects of the bucket.

The leader's thread submits work and collects the results, so that no state is shared: work gets all it needs as arguments, and
its callback runs in the leader's thread. Per key there is at most one piece of work in flight.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Hashable
from contextvars import copy_context
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Finished(Generic[T]):
    """What a piece of work returned or raised."""

    value: T | None = None
    error: Exception | None = None

    def result(self) -> T:
        """Return the value. Raises the error."""
        if self.error is not None:
            raise self.error
        return self.value  # type: ignore[return-value]  # T may itself be None


class Workers(Protocol):
    """Runs work elsewhere. Only the leader's thread may call it."""

    def submit(self, key: Hashable, work: Callable[[], T], done: Callable[[Finished[T]], None]) -> bool:
        """Run `work` unless work for the key is in flight; return whether it was taken. `deliver` calls `done`."""
        ...

    def is_busy(self, key: Hashable) -> bool:
        """Return whether work for the key is in flight, or finished and not delivered."""
        ...

    def deliver(self) -> bool:
        """Call `done` of all finished work, in the caller's thread; return whether there was any."""
        ...

    def stop(self) -> None:
        """Start nothing more. What is in flight ends by itself, and is never delivered."""
        ...


class ThreadWorkers:
    """Workers in a bounded number of daemon threads: one that hangs in a request does not delay the end of the process."""

    def __init__(self, threads: int, name: str, wake: Callable[[], None]) -> None:
        """`wake` is called from a worker's thread when a result is ready. Threads start as work is submitted."""
        self._max_threads = threads
        self._name = name
        self._wake = wake
        self._threads: list[threading.Thread] = []
        self._waiting: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._in_flight: set[Hashable] = set()
        self._finished: deque[tuple[Hashable, Callable[[], None]]] = deque()
        self._stopped = threading.Event()

    def submit(self, key: Hashable, work: Callable[[], T], done: Callable[[Finished[T]], None]) -> bool:
        if key in self._in_flight or self._stopped.is_set():
            return False
        self._in_flight.add(key)
        context = copy_context()
        self._waiting.put(lambda: context.run(self._work, key, work, done))
        if len(self._threads) < min(self._max_threads, len(self._in_flight)):
            thread = threading.Thread(target=self._loop, name=self._name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return True

    def is_busy(self, key: Hashable) -> bool:
        return key in self._in_flight

    def deliver(self) -> bool:
        found = False
        while self._finished:
            key, call_done = self._finished.popleft()
            self._in_flight.discard(key)
            found = True
            call_done()
        return found

    def stop(self) -> None:
        self._stopped.set()
        for _ in self._threads:
            self._waiting.put(None)

    def _loop(self) -> None:
        while (work := self._waiting.get()) is not None and not self._stopped.is_set():
            work()

    def _work(self, key: Hashable, work: Callable[[], T], done: Callable[[Finished[T]], None]) -> None:
        finished = run_work(work)
        self._finished.append((key, lambda: done(finished)))
        self._wake()


def run_work(work: Callable[[], T]) -> Finished[T]:
    """Run the work and return its result or error."""
    try:
        return Finished(work())
    except Exception as error:  # noqa: BLE001  # raised again where the result is used
        return Finished(error=error)
