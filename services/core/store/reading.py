"""The reading half of a store that stands before another one: whoever guards or silences writes adds the other half."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from services.core.store import Entry, ObjectStore


class ReadsThrough:
    """Reads come from `store`; `write`, `upload` and `delete` are a subclass's. See ObjectStore."""

    def __init__(self, store: ObjectStore) -> None:
        """Nothing is read yet."""
        self.store = store

    @property
    def url(self) -> str:
        """The other store's."""
        return self.store.url

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        return self.store.read(key)

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        """The object's bytes and a mark of this state of it; None while it is as `mark` says. Raises NotFound."""
        return self.store.read_changed(key, mark)

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
