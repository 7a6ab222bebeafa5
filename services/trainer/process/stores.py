"""The run's store, with patience for one that is away for a while; and one that writes nothing, for ranks that do not lead.

What waits here is what the run cannot go on without: manifests, snapshot, versions. Status, log and checkpoints are written
without patience: training goes on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import structlog

from services.core.errors import StoreError
from services.core.store import Entry, ObjectStore
from services.core.store.wrapped import ReadsThrough
from services.trainer.process.lifecycle import Stop

RETRY_SECONDS = 600.0
_MAX_PAUSE = 20.0
T = TypeVar("T")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class RetryingStore:
    """An ObjectStore that tries again for ten minutes what may pass, until the process is asked to end."""

    store: ObjectStore
    stop: Stop
    seconds: float = RETRY_SECONDS
    pause: float = 0.5

    @property
    def url(self) -> str:
        """See ObjectStore; so are all others."""
        return self.store.url

    def read(self, key: str) -> bytes:
        return self._retry(lambda: self.store.read(key))

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        return self._retry(lambda: self.store.read_changed(key, mark))

    def write(self, key: str, data: bytes) -> None:
        self._retry(lambda: self.store.write(key, data))

    def upload(self, source: Path, key: str) -> None:
        self._retry(lambda: self.store.upload(source, key))

    def local(self, key: str) -> Path:
        return self._retry(lambda: self.store.local(key))

    def forget(self, key: str) -> bool:
        return self.store.forget(key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        return iter(self._retry(lambda: list(self.store.entries(prefix))))

    def keys(self, prefix: str = "") -> Iterator[str]:
        return iter(self._retry(lambda: list(self.store.keys(prefix))))

    def folders(self, prefix: str) -> list[str]:
        return self._retry(lambda: self.store.folders(prefix))

    def delete(self, key: str) -> None:
        self._retry(lambda: self.store.delete(key))

    def _retry(self, work: Callable[[], T]) -> T:
        return retry_store(work, self.stop, self.seconds, self.pause)


class ReadOnlyStore(ReadsThrough):
    """An ObjectStore whose writes do nothing: rank 0 does them."""

    def write(self, key: str, data: bytes) -> None:
        """Nothing."""

    def upload(self, source: Path, key: str) -> None:
        """Nothing."""

    def delete(self, key: str) -> None:
        """Nothing."""


def retry_store(work: Callable[[], T], stop: Stop, seconds: float, pause: float = 0.5) -> T:
    """What `work` gives, once the store lets it; its last StoreError after `seconds`. Raises Preempted, RunOutOfTime."""
    until = time.monotonic() + seconds
    while True:
        try:
            return work()
        except StoreError as error:
            if not error.transient or stop.requested or time.monotonic() > until:
                raise
            log.warning("the store is waited for", reason=str(error), seconds=pause)
        stop.wait(pause)
        pause = min(2 * pause, _MAX_PAUSE)
