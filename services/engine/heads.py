"""The versions in memory: the head of each, and which encoder computes its features.

A head has some hundred kilobytes, so those of all projects are kept: a new version of a linear probe is one small read, and
its encoder is in memory already. Reads run in parallel; all requests for a version share one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

from services.core.errors import EngineError, FitloopError
from services.core.telemetry.correlation import bind_ids, log_ids
from services.engine.compute import VersionKey
from services.engine.head import Head
from services.engine.loading import EncoderKey, Weights
from services.engine.model import Model
from services.engine.refusals import Refusals

MAX_PER_PROJECT: Final = 2
"""Versions of a project in memory: the served one, and the next or the previous."""
READERS: Final = 16
"""Reads at once: each waits for three answers of the bucket."""


@dataclass(frozen=True, slots=True)
class LoadedHead:
    """A version without its encoder."""

    labels: tuple[str, ...]
    encoder: EncoderKey
    head: Head | None
    """None: the version is a whole model, loaded as an encoder of its own."""
    size: int
    """Bytes."""

    def model(self, weights: Weights) -> Model:
        """Return the version as a whole. Raises EngineError if the head does not fit its encoder."""
        if isinstance(weights, Model):
            return weights
        return Model(self.labels, weights, self.head or Head())


class HeadCache:
    """Two versions of each project, at most `budget` bytes; the least recently used are dropped first."""

    def __init__(
        self,
        read: Callable[[VersionKey], LoadedHead],
        budget: float,
        on_unused: Callable[[EncoderKey], None],
        clock: Callable[[], float],
    ) -> None:
        """`read` blocks and raises FitloopError; `on_unused` is told of an encoder that no version in memory needs any more."""
        self.budget = budget
        self._read = read
        self._on_unused = on_unused
        self._heads: OrderedDict[VersionKey, LoadedHead] = OrderedDict()
        self._pending: dict[VersionKey, Future[LoadedHead]] = {}
        self._refusals = Refusals[VersionKey](clock)
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="heads")

    def get(self, key: VersionKey) -> LoadedHead | None:
        """Return a head in memory, which is then the most recently used."""
        with self._lock:
            if found := self._heads.get(key):
                self._heads.move_to_end(key)
            return found

    def request(self, key: VersionKey, *, retry: bool = False) -> Future[LoadedHead]:
        """Return the head's read, begun if nobody else did. `retry`: ignore a recent refusal. Raises that of a recent one."""
        with self._lock:
            if retry:
                self._refusals.forget(key)
            self._refusals.check(key)
            if pending := self._pending.get(key):
                return pending
            future = self._pending[key] = Future()
            future.set_running_or_notify_cancel()  # a cancelled request must not cancel it for the others
            if found := self._heads.get(key):
                del self._pending[key]
                future.set_result(found)
            else:
                self._readers.submit(self._load, key, future)
            return future

    def refuse(self, key: VersionKey, error: FitloopError) -> None:
        """Remember that the version cannot be used."""
        with self._lock:
            self._refusals.add(key, error)

    def evict(self, key: VersionKey) -> None:
        """Drop a version."""
        with self._lock:
            dropped = [self._heads.pop(key)] if key in self._heads else []
        self._report_unused(dropped)

    def items(self) -> list[tuple[VersionKey, LoadedHead]]:
        """Return the versions in memory, the least recently used first."""
        with self._lock:
            return list(self._heads.items())

    def refusals(self) -> dict[VersionKey, FitloopError]:
        """Return the recent refusals."""
        with self._lock:
            return self._refusals.current()

    def close(self) -> None:
        """End the reads."""
        self._readers.shutdown(cancel_futures=True)

    def _load(self, key: VersionKey, future: Future[LoadedHead]) -> None:
        try:
            with bind_ids(**log_ids(*key)):
                found = self._read(key)
        except FitloopError as error:
            self._fail(key, future, error)
        except Exception as error:  # noqa: BLE001  # any error of a library must reach the waiting requests
            self._fail(key, future, EngineError(f"Version {key.version} could not be loaded: {error!r}."))
        else:
            with self._lock:
                self._heads[key] = found
                del self._pending[key]
                dropped = [self._heads.pop(other) for other in self._surplus(key.project_key)]
            future.set_result(found)
            self._report_unused(dropped)

    def _fail(self, key: VersionKey, future: Future[LoadedHead], error: FitloopError) -> None:
        with self._lock:
            self._refusals.add(key, error)
            del self._pending[key]
        future.set_exception(error)

    def _surplus(self, project_key: str) -> list[VersionKey]:
        """Return the project's versions beyond the newest two, then the least recently used of all beyond the budget."""
        surplus = [key for key in self._heads if key.project_key == project_key][:-MAX_PER_PROJECT]
        excess = sum(found.size for key, found in self._heads.items() if key not in surplus) - self.budget
        for key, found in self._heads.items():
            if excess > 0 and key not in surplus and key.project_key != project_key:
                surplus.append(key)
                excess -= found.size
        return surplus

    def _report_unused(self, dropped: list[LoadedHead]) -> None:
        with self._lock:
            needed = {found.encoder for found in self._heads.values()}
        for key in {found.encoder for found in dropped} - needed:
            self._on_unused(key)
