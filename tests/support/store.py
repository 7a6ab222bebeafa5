"""A store in memory that can fail at any write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from services.core.errors import NotFound, StoreError
from services.core.store import Entry


class Killed(BaseException):
    """Stands for the end of the process: nothing may catch it."""


class MemoryStore:
    """An ObjectStore in memory. `fail_at` is the number of the write that fails; with `after` it is made nonetheless."""

    url = "memory:///"

    def __init__(self, data: dict[str, bytes] | None = None) -> None:
        self.data: dict[str, bytes] = {} if data is None else data
        self.changes = 0
        self.fail_at: int | None = None
        self.after = False
        self.error: BaseException = Killed()
        self.clock: Callable[[], float] = lambda: 0.0
        self.modified: dict[str, float] = {}
        """When each object was written, by `clock`."""
        self.away: StoreError | None = None
        """Raised by every request."""

    def read(self, key: str) -> bytes:
        self._answer()
        try:
            return self.data[key]
        except KeyError:
            raise NotFound(key) from None

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        data = self.read(key)
        now = hashlib.sha256(data).hexdigest()
        return None if now == mark else (data, now)

    def write(self, key: str, data: bytes) -> None:
        self._maybe_fail(before=True)
        self.data[key] = data
        self.modified[key] = self.clock()
        self._maybe_fail(before=False)

    def delete(self, key: str) -> None:
        if key not in self.data:
            return
        self._maybe_fail(before=True)
        del self.data[key]
        self._maybe_fail(before=False)

    def upload(self, source: Path, key: str) -> None:
        self.write(key, source.read_bytes())

    def local(self, key: str) -> Path:
        raise NotImplementedError(key)

    def forget(self, key: str) -> bool:
        del key
        return False

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        return iter(
            [Entry(key, len(self.data[key]), self.modified.get(key, 0.0)) for key in self.keys(prefix)]
        )

    def keys(self, prefix: str = "") -> Iterator[str]:
        self._answer()
        return iter(sorted(key for key in self.data if key.startswith(prefix)))

    def folders(self, prefix: str) -> list[str]:
        self._answer()
        return sorted({key[len(prefix) :].split("/")[0] for key in self.data if key.startswith(prefix)})

    def _answer(self) -> None:
        if self.away:
            raise self.away

    def _maybe_fail(self, *, before: bool) -> None:
        self._answer()
        self.changes += before
        if self.fail_at is not None and self.changes == self.fail_at and before is not self.after:
            raise self.error
