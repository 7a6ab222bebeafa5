"""Workers and executors without threads: work is done when it is submitted, or when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from typing import Any

from services.adapter.leader.workers import Finished, run_work


class InlineWorkers:
    """Does work when it is submitted; work whose key is in `held` waits for `release`."""

    def __init__(self) -> None:
        self.held: set[Hashable] = set()
        """Keys, or first parts of keys that are tuples."""
        self.submitted: list[Hashable] = []
        self._waiting: dict[Hashable, tuple[Callable[[], Any], Callable[[Finished[Any]], None]]] = {}
        self._finished: list[tuple[Hashable, Callable[[Finished[Any]], None], Finished[Any]]] = []

    def submit(self, key: Hashable, work: Callable[[], Any], done: Callable[[Finished[Any]], None]) -> bool:
        if self.is_busy(key):
            return False
        self.submitted.append(key)
        self._waiting[key] = (work, done)
        if not self._is_held(key):
            self._work(key)
        return True

    def is_busy(self, key: Hashable) -> bool:
        return key in self._waiting or any(key == finished for finished, _, _ in self._finished)

    def deliver(self) -> bool:
        found, self._finished = self._finished, []
        for _, done, finished in found:
            done(finished)
        return bool(found)

    def stop(self) -> None:
        self._waiting.clear()
        self._finished.clear()

    def release(self) -> None:
        """Do all work that waits."""
        self.held.clear()
        for key in list(self._waiting):
            self._work(key)

    def _is_held(self, key: Hashable) -> bool:
        return key in self.held or (isinstance(key, tuple) and key[0] in self.held)

    def _work(self, key: Hashable) -> None:
        work, done = self._waiting.pop(key)
        self._finished.append((key, done, run_work(work)))


class InlineExecutor(Executor):
    """Does work when it is submitted; while `is_held`, when a test calls `release`."""

    def __init__(self) -> None:
        self.is_held = False
        self._waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((future, lambda: fn(*args, **kwargs)))
        if not self.is_held:
            self.release()
        return future

    @property
    def in_flight(self) -> int:
        """The number of calls that were submitted and are not done."""
        return len(self._waiting)

    def release(self) -> None:
        """Do all work that waits."""
        waiting, self._waiting = self._waiting, []
        for future, work in waiting:
            finished = run_work(work)
            if finished.error:
                future.set_exception(finished.error)
            else:
                future.set_result(finished.value)
