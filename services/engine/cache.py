"""The models in memory: each loaded once, counted while requests use it, and closed when it has left and is unused.

A load runs in the one loading thread, beside the requests that are answered meanwhile; whoever needs the version waits
for that same load. A refusal is remembered for a minute, so that a broken version is not read again for each request;
trouble of the store for a moment.
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
"""For which an answer of the store that may be another one in a moment is remembered."""
MAX_PER_PROJECT = 2
"""Versions of a project in memory: what serves, and what comes or goes."""


class LoadedModel:
    """One version's model, or its load. `use` and `release` come in pairs."""

    def __init__(self) -> None:
        self.future: Future[Model] = Future()
        self.future.set_running_or_notify_cancel()  # a request that is given up cancels no load
        self._uses = 0
        self._left = False
        self._lock = threading.Lock()

    @property
    def in_use(self) -> bool:
        """Whether a request computes with it, or waits for it."""
        return self._uses > 0

    def acquire(self) -> None:
        """Keep the model from being closed. Raises EngineError where it is already."""
        with self._lock:
            if self._left and self._uses == 0:
                raise EngineError("The model has just left memory: ask again.")
            self._uses += 1

    def release(self) -> None:
        """One use less."""
        with self._lock:
            self._uses -= 1
            last = self._left and self._uses == 0
        if last:
            self._close()

    def evict(self) -> None:
        """Close the model as soon as nobody uses it."""
        with self._lock:
            unused = not self._left and self._uses == 0
            self._left = True
        if unused:
            self._close()

    def _close(self) -> None:
        self.future.add_done_callback(lambda loaded: None if loaded.exception() else loaded.result().close())


class ModelCache:
    """At most `limit` versions, and two of a project; the least recently used leave first."""

    def __init__(
        self,
        load: Callable[[VersionKey], Model],
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        size: Callable[[VersionKey], int] = lambda _: 0,
        budget: float = math.inf,
    ) -> None:
        """`load` and `size` (bytes of a version's files) block and raise FitloopError; at most `budget` bytes are held."""
        self._load = load
        self._limit = limit
        self._clock = clock
        self._size = size
        self._budget = budget
        self._sizes: dict[VersionKey, int] = {}
        """Of versions that were to be loaded."""
        self._entries: OrderedDict[VersionKey, LoadedModel] = OrderedDict()
        self._refused: dict[VersionKey, tuple[float, FitloopError]] = {}
        self._lock = threading.Lock()
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="load")

    def acquire(self, name: VersionKey, *, retry: bool = False) -> LoadedModel:
        """The version's model, in use, its load begun where it is not there. Never blocks. Raises what refused it a moment ago.

        `afresh`: try once more, whatever was refused. The load raises Overloaded where there is no room beside what is in use.
        """
        with self._lock:
            self._forget_refusals(name if retry else None)
            if name in self._refused:
                error = self._refused[name][1]
                raise type(error)(
                    str(error)
                )  # a new one: an error that is raised again and again keeps every frame
            held = self._entries.get(name) or self._start_load(name)
            self._entries.move_to_end(name)
            held.acquire()
            leaving = [self._entries.pop(other) for other in self._surplus(name[0])]
        for other in leaving:
            other.evict()
        return held

    def loaded(self) -> dict[VersionKey, tuple[Model, int]]:
        """The models in memory, each with the bytes of its version's files."""
        return {
            name: (model, self._sizes.get(name, 0))
            for name in self.loaded_keys()
            if (model := self.get(name))
        }

    def loaded_keys(self) -> list[VersionKey]:
        """What is loaded, the least recently used first."""
        with self._lock:
            return [name for name, held in self._entries.items() if held.future.done()]

    def refusals(self) -> dict[VersionKey, FitloopError]:
        """What was refused within the last minute, and why."""
        with self._lock:
            self._forget_refusals(None)
            return {name: error for name, (_, error) in self._refused.items()}

    def has_room(self, name: VersionKey) -> bool:
        """Whether the version fits beside all that is held, so that none has to leave for it. Blocks; raises FitloopError."""
        size = self._size_of(name)
        with self._lock:
            others = [held for held in self._entries if held != name]
            bytes_held = sum(self._sizes.get(other, 0) for other in others)
        return len(others) < self._limit and bytes_held + size <= self._budget

    def evict(self, name: VersionKey) -> None:
        """Let a version go, as soon as nobody uses it."""
        with self._lock:
            held = self._entries.pop(name, None)
        if held:
            held.evict()

    def get(self, name: VersionKey) -> Model | None:
        """The model where it is loaded."""
        held = self._entries.get(name)
        ready = held is not None and held.future.done() and not held.future.exception()
        return held.future.result() if held is not None and ready else None

    def close(self) -> None:
        """Let all models go."""
        with self._lock:
            leaving = list(self._entries.values())
            self._entries.clear()
        self._loading.shutdown(cancel_futures=False)
        for held in leaving:
            held.evict()

    def _surplus(self, project_key: str) -> list[VersionKey]:
        """Versions of one project beyond the newest two, then the least recently used of all beyond the limit."""
        own = [name for name in self._entries if name[0] == project_key][:-MAX_PER_PROJECT]
        rest = [name for name in self._entries if name not in own]
        return own + rest[: max(0, len(rest) - self._limit)]

    def _size_of(self, name: VersionKey) -> int:
        if name not in self._sizes:
            self._sizes[name] = self._size(name)
        return self._sizes.get(name, 0)

    def _make_room(self, name: VersionKey) -> None:
        """Let the least recently used go until the version fits. Raises EngineError where it never does, or Overloaded."""
        if (size := self._size_of(name)) > self._budget:
            raise EngineError(
                f"Version {name[1]} has {size / 1e6:.0f} MB, and FITLOOP_MODEL_MEMORY_MB allows {self._budget / 1e6:.0f}: "
                "allow more, or train from a smaller base model."
            )
        with self._lock:
            leaving = [self._entries.pop(other) for other in self._evictable(name)]
        for other in leaving:
            other.evict()

    def _evictable(self, name: VersionKey) -> list[VersionKey]:
        """The least recently used that must leave so that the version fits. Raises Overloaded where in-use ones fill it."""
        excess = sum(self._sizes.get(held, 0) for held in self._entries.keys() | {name}) - self._budget
        leaving = []
        for other, held in self._entries.items():
            if excess > 0 and other != name and not held.in_use:
                leaving.append(other)
                excess -= self._sizes.get(other, 0)
        if excess > 0:
            raise Overloaded(
                f"There is no memory for version {name[1]} beside those in use: try again in a moment."
            )
        return leaving

    def _start_load(self, name: VersionKey) -> LoadedModel:
        held = self._entries[name] = LoadedModel()
        self._loading.submit(self._run_load, name, held)
        return held

    def _run_load(self, name: VersionKey, held: LoadedModel) -> None:
        try:
            with bind_ids(**log_ids(*name)):
                self._make_room(name)
                model = self._load(name)
        except FitloopError as error:
            self._refuse(name, held, error)
        except Exception as error:  # noqa: BLE001  # whatever a library raises: the requests that wait must hear of it
            self._refuse(name, held, EngineError(f"Version {name[1]} could not be loaded: {error!r}."))
        else:
            held.future.set_result(model)

    def _refuse(self, name: VersionKey, held: LoadedModel, error: FitloopError) -> None:
        with self._lock:
            if not isinstance(error, Overloaded):  # that says nothing of the version
                self._refused[name] = (self._clock(), error)
            if self._entries.get(name) is held:
                del self._entries[name]
        held.future.set_exception(error)

    def _forget_refusals(self, name: VersionKey | None) -> None:
        now = self._clock()
        self._refused = {
            key: (since, error)
            for key, (since, error) in self._refused.items()
            if key != name and now - since < _retry_after(error)
        }


def _retry_after(error: FitloopError) -> float:
    transient = isinstance(error, StoreError) and error.transient
    return STORE_ERROR_SECONDS if transient else REFUSAL_SECONDS
