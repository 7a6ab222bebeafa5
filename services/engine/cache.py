"""A cache of encoders in memory, least recently used, within a budget of bytes.

An encoder is loaded once for all versions that share it; a whole model counts as an encoder of its own. One thread loads,
while requests are answered. What is loading or in use is never evicted: if all the memory is in use, a load is Overloaded,
and so is a request that would have to wait behind too many loads. A load that nobody waits for any more is dropped before it
starts.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from services.core.errors import UNUSABLE_VERSION, EngineError, FitloopError, Overloaded
from services.core.telemetry.correlation import bind_ids
from services.engine import metrics
from services.engine.activity import Activity
from services.engine.load_queue import LoadQueue
from services.engine.loading import EncoderKey, Load, Weights
from services.engine.refusals import Refusals


class NoRoom(Overloaded):
    """The encoder is not in memory and must not be loaded, or fits only if another one is evicted, which was not allowed."""


@dataclass(eq=False, slots=True)
class CachedEncoder:
    """An encoder in memory, or its load. Each `acquire` has one `release`."""

    key: EncoderKey
    project_key: str
    """Whose request began the load."""
    _cache: EncoderCache
    future: Future[Weights] = field(default_factory=Future)
    size: int | None = None
    """Bytes; None until the load starts."""
    uses: int = 0
    """Requests that compute with it or wait for it."""
    may_evict: bool = False
    """Whether somebody wants it more than what was not used for longest."""
    evicted: bool = False

    def acquire(self) -> None:
        """Keep it in memory until another `release`. Only for who has acquired it already."""
        self._cache.use(self, 1)

    def release(self) -> None:
        """Undo one `acquire`."""
        self._cache.use(self, -1)


class EncoderCache:
    """At most `budget` bytes and, if `limit` is not 0, `limit` encoders."""

    def __init__(
        self,
        plan: Callable[[EncoderKey], Load],
        budget: float = math.inf,
        limit: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`plan` and what it returns block, and raise FitloopError."""
        self.budget = budget
        self.limit = limit
        self._plan = plan
        self._entries: OrderedDict[EncoderKey, CachedEncoder] = OrderedDict()
        """The least recently used first."""
        self._closing: set[CachedEncoder] = set()
        """Evicted, and still in use."""
        self._activity = Activity(clock)
        self._refusals = Refusals[EncoderKey](clock)
        self._lock = threading.Lock()
        self._queue = LoadQueue[CachedEncoder](self._load, self._lock)

    def acquire(
        self,
        key: EncoderKey,
        project_key: str = "",
        *,
        ahead: bool = False,
        may_evict: bool = True,
        retry: bool = False,
    ) -> CachedEncoder:
        """Return the encoder, acquired, starting its load if needed. Never blocks.

        `ahead`: wait behind any number of loads; `retry`: ignore a recent refusal. Raises the error of a recent refusal, and
        Overloaded. The load raises Overloaded if what is in use leaves no memory, NoRoom if nobody `may_evict`.
        """
        with self._lock:
            if retry:
                self._refusals.forget(key)
            self._refusals.check(key)
            self._activity.ask(key)
            entry = self._entries.get(key) or self._enqueue(key, project_key, ahead=ahead)
            self._entries.move_to_end(key)
            entry.may_evict = entry.may_evict or may_evict
            entry.uses += 1
        return entry

    def use(self, entry: CachedEncoder, change: int) -> None:
        """Count uses. The last one of a queued load drops it, of an evicted encoder closes it."""
        with self._lock:
            entry.uses += change
            is_last = entry.uses == 0
            if is_last and self._queue.drop(entry):
                self._entries.pop(entry.key, None)
                metrics.count_encoder_load("dropped")
            is_closed = is_last and entry in self._closing
            if is_closed:
                self._closing.remove(entry)
        if is_closed:
            _close(entry)

    def get(self, key: EncoderKey) -> Weights | None:
        """Return the encoder if it is loaded."""
        entry = self._entries.get(key)
        ready = entry is not None and entry.future.done() and not entry.future.exception()
        return entry.future.result() if entry is not None and ready else None

    def loaded(self) -> dict[EncoderKey, tuple[Weights, int]]:
        """Return the loaded encoders and their bytes, the least recently used first."""
        with self._lock:
            entries = list(self._entries.values())
        return {entry.key: (found, entry.size or 0) for entry in entries if (found := self.get(entry.key))}

    def active(self) -> tuple[int, int]:
        """Return how many encoders were asked for lately, in memory or not, and their bytes as far as they are known."""
        with self._lock:
            return self._activity.total()

    def refusals(self) -> dict[EncoderKey, FitloopError]:
        """Return the recent refusals."""
        with self._lock:
            return self._refusals.current()

    def evict(self, key: EncoderKey) -> None:
        """Remove an encoder; it is closed as soon as it is unused."""
        with self._lock:
            entry = self._entries.pop(key, None)
            evicted = self._evicted([entry] if entry else [])
        for other in evicted:
            _close(other)

    def close(self) -> None:
        """Evict all encoders, once the current load has ended."""
        with self._lock:
            dropped = self._queue.drop_all()
        for entry in dropped:
            entry.future.set_exception(Overloaded("This process is shutting down: try again in a moment."))
        self._queue.close()
        for key in list(self._entries):
            self.evict(key)

    def _enqueue(self, key: EncoderKey, project_key: str, *, ahead: bool) -> CachedEncoder:
        if not ahead:
            self._queue.check_room(key, project_key)
        entry = self._entries[key] = CachedEncoder(key, project_key, self)
        self._queue.add(entry)
        return entry

    def _load(self, entry: CachedEncoder) -> None:
        try:
            with bind_ids(**entry.key.log_ids()):
                load = self._plan(entry.key)
                self._make_room(entry, load.size)
                weights = load.read()
                entry.size = load.size_of(weights)
        except FitloopError as error:
            self._refuse(entry, error)
        except Exception as error:  # noqa: BLE001  # any error of a library must reach the waiting requests
            self._refuse(entry, EngineError(f"The {entry.key} could not be loaded: {error!r}."))
        else:
            metrics.count_encoder_load("loaded")
            entry.future.set_result(weights)

    def _make_room(self, entry: CachedEncoder, size: int) -> None:
        """Evict the least recently used until the encoder fits. Raises EngineError if it never can, or Overloaded."""
        if size > self.budget:
            raise EngineError(
                f"The {entry.key} has {size / 1e6:.0f} MB, and {self.budget / 1e6:.0f} are allowed: raise the "
                "memory limit (or FITLOOP_MODEL_MEMORY_MB, if it is set), or train from a smaller base model."
            )
        with self._lock:
            self._activity.measure(entry.key, size)
            victims = self._victims(entry, size)
            entry.size = size
            for other in victims:
                self._entries.pop(other.key)
            evicted = self._evicted(victims)
        metrics.count_evictions(len(victims))
        for other in evicted:
            _close(other)

    def _victims(self, entry: CachedEncoder, size: int) -> list[CachedEncoder]:
        """Return the least recently used to evict so that the encoder fits. Raises NoRoom, Overloaded."""
        held = [other for other in self._entries.values() if other.size is not None and other is not entry]
        surplus = size + sum(other.size or 0 for other in (*held, *self._closing)) - self.budget
        too_many = len(held) + len(self._closing) + 1 - self.limit if self.limit else 0
        if (surplus > 0 or too_many > 0) and not entry.may_evict:
            raise NoRoom(f"There is no room for {entry.key} unless another encoder is evicted.")
        victims = []
        for other in held:
            if (surplus > 0 or too_many > 0) and not other.uses:
                victims.append(other)
                surplus, too_many = surplus - (other.size or 0), too_many - 1
        if surplus > 0 or too_many > 0:
            raise Overloaded(
                f"There is no memory for {entry.key} beside those in use: try again in a moment."
            )
        return victims

    def _evicted(self, entries: list[CachedEncoder]) -> list[CachedEncoder]:
        """Mark entries as evicted; return those that can be closed now."""
        for entry in entries:
            entry.evicted = True
        self._closing.update(entry for entry in entries if entry.uses)
        return [entry for entry in entries if not entry.uses]

    def _refuse(self, entry: CachedEncoder, error: FitloopError) -> None:
        with self._lock:
            self._refusals.add(entry.key, error)
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
        metrics.count_encoder_load(_outcome_of(error))
        entry.future.set_exception(error)


def _outcome_of(error: FitloopError) -> metrics.LoadOutcome:
    if isinstance(error, Overloaded):
        return "no_memory"
    return "refused" if isinstance(error, UNUSABLE_VERSION) else "failed"


def _close(entry: CachedEncoder) -> None:
    entry.future.add_done_callback(lambda loaded: None if loaded.exception() else loaded.result().close())
