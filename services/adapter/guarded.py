"""The store as the leader may change it: each change is made only while the lead surely outlives the write.

What waits in a paused process for the moment at which it goes on would otherwise undo what its successor has written.
Reading is everybody's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from services.adapter.ports import Leadership
from services.core.errors import StoreError
from services.core.store import Entry, ObjectStore


class NotLeading(StoreError):
    """This process does not lead, or not for long enough; nothing was written."""

    passing: ClassVar[bool] = True


class GuardedStore:
    """An ObjectStore over another one."""

    def __init__(self, store: ObjectStore, leadership: Leadership, write_seconds: float) -> None:
        """`write_seconds`: the longest that one change may take."""
        self.url = store.url
        self.store = store
        self.leadership = leadership
        self.write_seconds = write_seconds

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        return self.store.read(key)

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        """The object's bytes and a mark of this state of it; None while it is as `mark` says. Raises NotFound."""
        return self.store.read_changed(key, mark)

    def write(self, key: str, data: bytes) -> None:
        """Put the object in one step. Raises NotLeading."""
        self._check()
        self.store.write(key, data)

    def upload(self, source: Path, key: str) -> None:
        """Put a local file in one step. Raises NotLeading."""
        self._check()
        self.store.upload(source, key)

    def local(self, key: str) -> Path:
        """A local path that ends in the key and holds the object's bytes. Raises NotFound."""
        return self.store.local(key)

    def forget(self, key: str) -> bool:
        """Drop what `local` keeps of the object."""
        return self.store.forget(key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """Every object whose key begins with `prefix`, in the order of keys."""
        return self.store.entries(prefix)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that begins with `prefix`, in order."""
        return self.store.keys(prefix)

    def folders(self, prefix: str) -> list[str]:
        """The names right below `prefix` that hold objects, in order."""
        return self.store.folders(prefix)

    def delete(self, key: str) -> None:
        """Remove the object. Raises NotLeading."""
        self._check()
        self.store.delete(key)

    def _check(self) -> None:
        if not self.leadership.leads(self.write_seconds):
            raise NotLeading("Another adapter leads, or will in a moment: this one writes nothing.")
