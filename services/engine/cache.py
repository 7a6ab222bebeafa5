"""A cache of loaded models: each is loaded once, reference-counted while in use, and closed once evicted and unused.

Loads run in one thread, while other requests are answered; all requests for a version share its load. A refusal is
remembered for a minute, so that a broken version is not read again for each request; a store error for two seconds.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from services.core.errors import EngineError, FitloopError, Overloaded, StoreError
from services.core.telemetry.correlation import bind_ids, log_ids
from services.engine.compute import VersionKey
from services.engine.model import Model

REFUSAL_SECONDS = 60.0
STORE_ERROR_SECONDS = 2.0
"""For which a transient store error is remembered."""
MAX_PER_PROJECT = 2
"""Versions of a project in memory: the served one, and the next or the previous."""


class LoadedModel:
    """One version's model, or its load in progress. Calls of `acquire` and `release` come in pairs."""

    def __init__(self) -> None:
        self.future: Future[Model] = Future()
        self.future.set_running_or_notify_cancel()  # a cancelled request must not cancel the load
        self._uses = 0
        self._evicted = False
        self._lock = threading.Lock()

    @property
    def in_use(self) -> bool:
        """Return whether a request computes with the model or waits for it."""
        return self._uses > 0

    def acquire(self) -> None:
        """Keep the model from being closed. Raises EngineError if it is closed already."""
        with self._lock:
            if self._evicted and self._uses == 0:
                raise EngineError("The model was just evicted from memory: try again.")
            self._uses += 1

    def release(self) -> None:
        """Undo one `acquire`."""
        with self._lock:
            self._uses -= 1
            last = self._evicted and self._uses == 0
        if last:
            self._close()

    def evict(self) -> None:
        """Close the model as soon as it is unused."""
        with self._lock:
            unused = not self._evicted and self._uses == 0
            self._evicted = True
        if unused:
            self._close()

    def _close(self) -> None:
        self.future.add_done_callback(lambda loaded: None if loaded.exception() else loaded.result().close())


class ModelCache:
    """At most `limit` versions, and two of each project; the least recently used are evicted first."""

    def __init__(
        self,
        load: Callable[[VersionKey], Model],
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        size: Callable[[VersionKey], int] = lambda _: 0,
        budget: float = math.inf,
    ) -> None:
        """`load` and `size` (bytes of a version's files) block and raise FitloopError; `budget` bounds the bytes loaded."""
        self._load = load
        self._limit = limit
        self._clock = clock
        self._size = size
        self._budget = budget
        self._sizes: dict[VersionKey, int] = {}
        """Of all versions that were ever to be loaded."""
        self._entries: OrderedDict[VersionKey, LoadedModel] = OrderedDict()
        self._refused: dict[VersionKey, tuple[float, FitloopError]] = {}
        self._lock = threading.Lock()
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="load")

    def acquire(self, key: VersionKey, *, retry: bool = False) -> LoadedModel:
        """Acquire the version's model, starting its load if needed. Never blocks. Raises the error of a recent refusal.

        `retry`: ignore a recent refusal. The load raises Overloaded if models in use leave no memory for it.
        """
        with self._lock:
            self._forget_refusals(key if retry else None)
            if key in self._refused:
                error = self._refused[key][1]
                raise type(error)(
                    str(error)
                )  # a new one: raising the same error again would keep every frame
            entry = self._entries.get(key) or self._start_load(key)
            self._entries.move_to_end(key)
            entry.acquire()
            evicted = [self._entries.pop(other) for other in self._surplus(key.project_key)]
        for other in evicted:
            other.evict()
        return entry

    def loaded(self) -> dict[VersionKey, tuple[Model, int]]:
        """Return the models in memory, each with the bytes of its version's files."""
        return {
            key: (model, self._sizes.get(key, 0)) for key in self.loaded_keys() if (model := self.get(key))
        }

    def loaded_keys(self) -> list[VersionKey]:
        """Return the keys of finished loads, the least recently used first."""
        with self._lock:
            return [key for key, entry in self._entries.items() if entry.future.done()]

    def refusals(self) -> dict[VersionKey, FitloopError]:
        """Return the recent refusals."""
        with self._lock:
            self._forget_refusals(None)
            return {key: error for key, (_, error) in self._refused.items()}

    def has_room(self, key: VersionKey) -> bool:
        """Return whether the version fits without evicting another. Blocks; raises FitloopError."""
        size = self._size_of(key)
        with self._lock:
            others = [other for other in self._entries if other != key]
            loaded_bytes = sum(self._sizes.get(other, 0) for other in others)
        return len(others) < self._limit and loaded_bytes + size <= self._budget

    def evict(self, key: VersionKey) -> None:
        """Remove a version; its model is closed as soon as it is unused."""
        with self._lock:
            entry = self._entries.pop(key, None)
        if entry:
            entry.evict()

    def get(self, key: VersionKey) -> Model | None:
        """Return the model if it is loaded."""
        entry = self._entries.get(key)
        ready = entry is not None and entry.future.done() and not entry.future.exception()
        return entry.future.result() if entry is not None and ready else None

    def close(self) -> None:
        """Evict all models."""
        with self._lock:
            evicted = list(self._entries.values())
            self._entries.clear()
        self._loading.shutdown(cancel_futures=False)
        for entry in evicted:
            entry.evict()

    def _surplus(self, project_key: str) -> list[VersionKey]:
        """Return the project's versions beyond the newest two, then the least recently used of all beyond the limit."""
        own = [key for key in self._entries if key.project_key == project_key][:-MAX_PER_PROJECT]
        rest = [key for key in self._entries if key not in own]
        return own + rest[: max(0, len(rest) - self._limit)]

    def _size_of(self, key: VersionKey) -> int:
        if key not in self._sizes:
            self._sizes[key] = self._size(key)
        return self._sizes.get(key, 0)

    def _make_room(self, key: VersionKey) -> None:
        """Evict the least recently used until the version fits. Raises EngineError if it never can, or Overloaded."""
        if (size := self._size_of(key)) > self._budget:
            raise EngineError(
                f"Version {key.version} has {size / 1e6:.0f} MB, and FITLOOP_MODEL_MEMORY_MB allows {self._budget / 1e6:.0f}: "
                "raise the limit, or train from a smaller base model."
            )
        with self._lock:
            evicted = [self._entries.pop(other) for other in self._evictable(key)]
        for other in evicted:
            other.evict()

    def _evictable(self, key: VersionKey) -> list[VersionKey]:
        """Return the least recently used to evict so that the version fits. Raises Overloaded if too many are in use."""
        excess = sum(self._sizes.get(other, 0) for other in self._entries.keys() | {key}) - self._budget
        evictable = []
        for other, entry in self._entries.items():
            if excess > 0 and other != key and not entry.in_use:
                evictable.append(other)
                excess -= self._sizes.get(other, 0)
        if excess > 0:
            raise Overloaded(
                f"There is no memory for version {key.version} beside those in use: try again in a moment."
            )
        return evictable

    def _start_load(self, key: VersionKey) -> LoadedModel:
        entry = self._entries[key] = LoadedModel()
        self._loading.submit(self._run_load, key, entry)
        return entry

    def _run_load(self, key: VersionKey, entry: LoadedModel) -> None:
        try:
            with bind_ids(**log_ids(*key)):
                self._make_room(key)
                model = self._load(key)
        except FitloopError as error:
            self._refuse(key, entry, error)
        except Exception as error:  # noqa: BLE001  # any error of a library must reach the waiting requests
            self._refuse(key, entry, EngineError(f"Version {key.version} could not be loaded: {error!r}."))
        else:
            entry.future.set_result(model)

    def _refuse(self, key: VersionKey, entry: LoadedModel, error: FitloopError) -> None:
        with self._lock:
            if not isinstance(error, Overloaded):  # which is not about the version
                self._refused[key] = (self._clock(), error)
            if self._entries.get(key) is entry:
                del self._entries[key]
        entry.future.set_exception(error)

    def _forget_refusals(self, key: VersionKey | None) -> None:
        now = self._clock()
        self._refused = {
            other: (since, error)
            for other, (since, error) in self._refused.items()
            if other != key and now - since < _retry_after(error)
        }


def _retry_after(error: FitloopError) -> float:
    is_transient = isinstance(error, StoreError) and error.transient
    return STORE_ERROR_SECONDS if is_transient else REFUSAL_SECONDS
