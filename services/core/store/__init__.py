"""Where everything is kept. `open_store(url)` serves all processes; a store is a flat map of keys to bytes.

Keys are relative, with "/" between parts. A write is atomic: a reader sees the old bytes or the new, never a part.
No conditional writes: what is unique is immutable, and what changes has one writer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote, urlsplit

from services.core.errors import BadConfig


class ObjectStore(Protocol):
    """Bytes by key. Every method may raise StoreError."""

    url: str

    def read(self, key: str) -> bytes:
        """The object's bytes. Raises NotFound."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Put the object in one step."""
        ...

    def upload(self, source: Path, key: str) -> None:
        """Put a local file in one step, however large."""
        ...

    def local(self, key: str) -> Path:
        """A local path that holds the object's bytes, to be read and not changed. Raises NotFound."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """Every key that begins with `prefix`, in order."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """The names right below `prefix` (which ends in "/") that hold objects, in order."""
        ...

    def delete(self, key: str) -> None:
        """Remove the object; nothing happens where there is none."""
        ...


def open_store(url: str) -> ObjectStore:
    """The store at `file:///a/folder`. Raises BadConfig for any other scheme."""
    from services.core.store.files import FileStore

    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/"):
        return FileStore(Path(unquote(parts.path)))
    raise BadConfig(f"{url!r} names no store that this release knows: use file:///an/absolute/folder.")
