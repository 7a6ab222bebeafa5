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
from services.engine.model import Model

REFUSED_SECONDS = 60.0
TROUBLE_SECONDS = 2.0
"""For which an answer of the store that may be another one in a moment is remembered."""
PER_PROJECT = 2
"""Versions of a project in memory: what serves, and what comes or goes."""
Name = tuple[str, str]
"""Project key and version."""


class Held:
    """One version's model, or its load. `use` and `release` come in pairs."""

    def __init__(self) -> None:
        self.loaded: Future[Model] = Future()
        self.loaded.set_running_or_notify_cancel()  # a request that is given up cancels no load
        self._uses = 0
        self._left = False
        self._lock = threading.Lock()

    @property
    def in_use(self) -> bool:
        """Whether a request computes with it, or waits for it."""
        return self._uses > 0

    def use(self) -> None:
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

    def leave(self) -> None:
        """Close the model as soon as nobody uses it."""
        with self._lock:
            unused = not self._left and self._uses == 0
            self._left = True
        if unused:
            self._close()

    def _close(self) -> None:
        self.loaded.add_done_callback(lambda loaded: None if loaded.exception() else loaded.result().close())


class Models:
    """At most `limit` versions, and two of a project; the least recently used leave first."""

    def __init__(
        self,
        load: Callable[[Name], Model],
        limit: int,
        clock: Callable[[], float] = time.monotonic,
        size: Callable[[Name], int] = lambda _: 0,
        budget: float = math.inf,
    ) -> None:
        """`load` and `size` (bytes of a version's files) block and raise FitloopError; at most `budget` bytes are held."""
        self._load = load
        self._limit = limit
        self._clock = clock
        self._size = size
        self._budget = budget
        self._sizes: dict[Name, int] = {}
        """Of versions that were to be loaded."""
        self._held: OrderedDict[Name, Held] = OrderedDict()
        self._refused: dict[Name, tuple[float, FitloopError]] = {}
        self._lock = threading.Lock()
        self._loading = ThreadPoolExecutor(1, thread_name_prefix="load")

    def use(self, name: Name, *, afresh: bool = False) -> Held:
        """The version's model, in use, its load begun where it is not there. Never blocks. Raises what refused it a moment ago.

        `afresh`: try once more, whatever was refused. The load raises Overloaded where there is no room beside what is in use.
        """
        with self._lock:
            self._forget_refusals(name if afresh else None)
            if name in self._refused:
                error = self._refused[name][1]
                raise type(error)(
                    str(error)
                )  # a new one: an error that is raised again and again keeps every frame
            held = self._held.get(name) or self._begin(name)
            self._held.move_to_end(name)
            held.use()
            leaving = [self._held.pop(other) for other in self._surplus(name[0])]
        for other in leaving:
            other.leave()
        return held

    def loaded(self) -> dict[Name, tuple[Model, int]]:
        """The models in memory, each with the bytes of its version's files."""
        return {name: (model, self._sizes.get(name, 0)) for name in self.names() if (model := self.get(name))}

    def names(self) -> list[Name]:
        """What is loaded, the least recently used first."""
        with self._lock:
            return [name for name, held in self._held.items() if held.loaded.done()]

    def refusals(self) -> dict[Name, FitloopError]:
        """What was refused within the last minute, and why."""
        with self._lock:
            self._forget_refusals(None)
            return {name: error for name, (_, error) in self._refused.items()}

    def has_room(self, name: Name) -> bool:
        """Whether the version fits beside all that is held, so that none has to leave for it. Blocks; raises FitloopError."""
        size = self._measured(name)
        with self._lock:
            others = [held for held in self._held if held != name]
            bytes_held = sum(self._sizes.get(other, 0) for other in others)
        return len(others) < self._limit and bytes_held + size <= self._budget

    def drop(self, name: Name) -> None:
        """Let a version go, as soon as nobody uses it."""
        with self._lock:
            held = self._held.pop(name, None)
        if held:
            held.leave()

    def get(self, name: Name) -> Model | None:
        """The model where it is loaded."""
        held = self._held.get(name)
        ready = held is not None and held.loaded.done() and not held.loaded.exception()
        return held.loaded.result() if held is not None and ready else None

    def close(self) -> None:
        """Let all models go."""
        with self._lock:
            leaving = list(self._held.values())
            self._held.clear()
        self._loading.shutdown(cancel_futures=False)
        for held in leaving:
            held.leave()

    def _surplus(self, project_key: str) -> list[Name]:
        """Versions of one project beyond the newest two, then the least recently used of all beyond the limit."""
        own = [name for name in self._held if name[0] == project_key][:-PER_PROJECT]
        rest = [name for name in self._held if name not in own]
        return own + rest[: max(0, len(rest) - self._limit)]

    def _measured(self, name: Name) -> int:
        if name not in self._sizes:
            self._sizes[name] = self._size(name)
        return self._sizes.get(name, 0)

    def _make_room(self, name: Name) -> None:
        """Let the least recently used go until the version fits. Raises EngineError where it never does, or Overloaded."""
        if (size := self._measured(name)) > self._budget:
            raise EngineError(
                f"Version {name[1]} has {size / 1e6:.0f} MB, and FITLOOP_MODEL_MEMORY_MB allows {self._budget / 1e6:.0f}: "
                "allow more, or train from a smaller base model."
            )
        with self._lock:
            leaving = [self._held.pop(other) for other in self._room_for(name)]
        for other in leaving:
            other.leave()

    def _room_for(self, name: Name) -> list[Name]:
        """The least recently used that must leave so that the version fits. Raises Overloaded where in-use ones fill it."""
        excess = sum(self._sizes.get(held, 0) for held in self._held.keys() | {name}) - self._budget
        leaving = []
        for other, held in self._held.items():
            if excess > 0 and other != name and not held.in_use:
                leaving.append(other)
                excess -= self._sizes.get(other, 0)
        if excess > 0:
            raise Overloaded(
                f"There is no memory for version {name[1]} beside those in use: try again in a moment."
            )
        return leaving

    def _begin(self, name: Name) -> Held:
        held = self._held[name] = Held()
        self._loading.submit(self._fill, name, held)
        return held

    def _fill(self, name: Name, held: Held) -> None:
        try:
            with bind_ids(**log_ids(*name)):
                self._make_room(name)
                model = self._load(name)
        except FitloopError as error:
            self._refuse(name, held, error)
        except Exception as error:  # noqa: BLE001  # whatever a library raises: the requests that wait must hear of it
            self._refuse(name, held, EngineError(f"Version {name[1]} could not be loaded: {error!r}."))
        else:
            held.loaded.set_result(model)

    def _refuse(self, name: Name, held: Held, error: FitloopError) -> None:
        with self._lock:
            if not isinstance(error, Overloaded):  # that says nothing of the version
                self._refused[name] = (self._clock(), error)
            if self._held.get(name) is held:
                del self._held[name]
        held.loaded.set_exception(error)

    def _forget_refusals(self, name: Name | None) -> None:
        now = self._clock()
        self._refused = {
            key: (since, error)
            for key, (since, error) in self._refused.items()
            if key != name and now - since < _remembered(error)
        }


def _remembered(error: FitloopError) -> float:
    transient = isinstance(error, StoreError) and error.transient
    return TROUBLE_SECONDS if transient else REFUSED_SECONDS
