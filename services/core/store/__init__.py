"""The object store: a flat map of keys to bytes, opened by `open_store(url)` in every process.

Keys are relative, with "/" between parts. Writes are atomic: a reader sees the old bytes or the new ones, never a part.
There are no conditional writes: unique objects are immutable, and mutable objects have one writer. Sizes of documents are
limited by what their keys name, since another process, maybe a broken one, wrote them.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import unquote, urlsplit

from services.core.errors import BadConfig, NotFound, ObjectTooLarge, StoreError

if TYPE_CHECKING:
    from services.core.settings import S3Settings, StorageSettings


@dataclass(frozen=True, slots=True)
class Entry:
    """A listed object: size in bytes, and modification time in seconds since the epoch."""

    key: str
    size: int
    modified: float


class ObjectStore(Protocol):
    """Bytes by key. Every method may raise StoreError, whose `transient` says whether a retry may help."""

    @property
    def url(self) -> str:
        """The URL without a trailing "/"; `open_store(url)` opens the same store."""
        ...

    def read(self, key: str) -> bytes:
        """Return the object's bytes. Raises NotFound."""
        ...

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        """Return the object's bytes and a mark of its state; None if it is unchanged since `mark`. Raises NotFound."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Write the object atomically."""
        ...

    def upload(self, source: Path, key: str) -> None:
        """Upload a local file of any size atomically."""
        ...

    def local(self, key: str) -> Path:
        """Return a local path that ends in the key and holds the object's bytes; do not change it. Raises NotFound."""
        ...

    def forget(self, key: str) -> bool:
        """Drop the local copy of an object that turned out wrong. Return False if there is none."""
        ...

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """List all objects whose key begins with `prefix`, sorted by key."""
        ...

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List all keys that begin with `prefix`, sorted."""
        ...

    def folders(self, prefix: str) -> list[str]:
        """List the names directly below `prefix` (which ends in "/") that contain objects, sorted."""
        ...

    def delete(self, key: str) -> None:
        """Delete the object, if it exists."""
        ...


def open_store(url: str, s3: S3Settings | None = None, storage: StorageSettings | None = None) -> ObjectStore:
    """Open the store at `file:///a/folder` or `s3://bucket/prefix/`; missing settings are read from the environment.

    Its requests are counted. Nothing is read yet: see `check_store`. Raises BadConfig for any other URL, and for
    wrong settings.
    """
    from services.core.store.wrapped import CountingStore

    parts = urlsplit(url)
    if parts.scheme == "file" and parts.path.startswith("/"):
        from services.core.store.files import FileStore

        return CountingStore(FileStore(Path(unquote(parts.path))))
    if parts.scheme == "s3" and parts.netloc:
        from services.core.settings import Settings
        from services.core.store.s3 import S3Store

        if s3 is None or storage is None:
            settings = Settings.load()
            s3, storage = s3 or settings.s3, storage or settings.storage
        return CountingStore(S3Store(url, s3, storage))
    raise BadConfig(
        f"{url!r} is not a store that this release supports: use s3://bucket/prefix/ or file:///an/absolute/folder."
    )


WRITTEN_BY_ALL: Final = ("runs/", "encoders/")
"""Where adapters and trainers write, and a policy may forget one: releases before encoders wrote projects/ and runs/ alone."""


def check_store(store: ObjectStore, *, write: bool) -> None:
    """Try what a process will do: list, read and, with `write`, write and delete below the prefixes of WRITTEN_BY_ALL.

    Raises BadConfig if a person must change something, StoreError if waiting may help.
    """
    try:
        store.folders("projects/")
        with contextlib.suppress(NotFound):
            store.read("serving.json")
        if write:
            for prefix in WRITTEN_BY_ALL:
                key = f"{prefix}.check-{secrets.token_hex(8)}"
                store.write(key, b"")
                store.delete(key)
    except StoreError as error:
        if error.transient:
            raise
        raise BadConfig(str(error)) from error


def unavailable_reason(store: ObjectStore, *, write: bool) -> str:
    """Run `check_store` for a process that can wait: return the message if the store does not answer, else "". Raises BadConfig."""
    try:
        check_store(store, write=write)
    except StoreError as error:
        return str(error)
    return ""


MAX_KEY_BYTES: Final = 900
"""S3 allows 1,024 bytes, the store's prefix included."""

_MAX_PART_BYTES: Final = 200
"""Bytes between two slashes: file names have up to 255, and temporary ones are longer."""

_RESERVED: Final = frozenset({"", ".", ".."})

PARTIAL: Final = ".partial-"
"""Prefix of files that are still being written; they are never listed."""


def check_key(key: str) -> str:
    """Return the key. Raises StoreError if it is invalid."""
    if problem := _problem(key, key.split("/")):
        raise StoreError(f"{key[:80]!r} is not a key: {problem}.")
    return key


def check_prefix(prefix: str) -> str:
    """Return the prefix of keys, which may be "". Raises StoreError if no key can begin with it."""
    *parts, _ = prefix.split("/")
    if problem := _problem(prefix, parts):
        raise StoreError(f"No key can begin with {prefix[:80]!r}: {problem}.")
    return prefix


def _problem(text: str, parts: list[str]) -> str:
    if any(part in _RESERVED for part in parts):
        return "keys are relative, and no part between two '/' is empty, '.' or '..'"
    if any(part.startswith(PARTIAL) for part in parts):
        return f"no part may begin with {PARTIAL!r}, the prefix of files that are still being written"
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in text) or "\\" in text:
        return "it contains a control character or a backslash"
    size = max(map(len, (part.encode() for part in parts)), default=0)
    if len(text.encode()) > MAX_KEY_BYTES or size > _MAX_PART_BYTES:
        return (
            f"it is longer than {MAX_KEY_BYTES} bytes, or one of its parts is longer than {_MAX_PART_BYTES}"
        )
    return ""


_MB: Final = 1 << 20

_DEFAULT: Final = 64 * _MB

_LIMITS: Final = (
    (re.compile(r"^runs/[^/]+/(status|launch)\.json$"), 1 * _MB),
    (re.compile(r"^runs/[^/]+/log\.txt$"), 4 * _MB),
    (re.compile(r"^runs/[^/]+/snapshot\.json$"), 256 * _MB),  # a line for each of some million labelled tasks
    (re.compile(r"^runs/[^/]+/checkpoints/"), 4096 * _MB),  # a trainer's own
    (re.compile(r"^inbox/"), 1 * _MB),
    (re.compile(r"^serving"), 16 * _MB),  # 82 kB for 500 projects
    (re.compile(r"^projects/[^/]+/(project|connection)\.json$"), 16 * _MB),  # with the label config
    (re.compile(r"^projects/[^/]+/labels/.*safetensors$"), 1024 * _MB),  # 47 bytes a labelled task
    (re.compile(r"^projects/[^/]+/verdicts/"), 1 * _MB),
)


def max_bytes(key: str) -> int:
    """Return the largest size at which the object is read."""
    return next((most for pattern, most in _LIMITS if pattern.match(key)), _DEFAULT)


def object_too_large(key: str, url: str, size: int) -> ObjectTooLarge:
    """Return the error that names object, size and limit."""
    return ObjectTooLarge(
        f"{key!r} in {url} is {size / _MB:.1f} MB, and objects of this kind may be at most {max_bytes(key) // _MB} MB: "
        "delete it, or restore the earlier object."
    )
