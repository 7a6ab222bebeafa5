"""Immutable folders of the bucket: their files are uploaded first, their manifest last, and each file is verified when it is read."""

from __future__ import annotations

import hashlib
from pathlib import Path

from services.core.domain import FileEntry
from services.core.errors import NotFound, StoreError
from services.core.store import ObjectStore


class DamagedFile(StoreError):
    """A file is missing or is not what its manifest says; the message ends the sentence "<what> …"."""


def upload_files(store: ObjectStore, folder: Path, prefix: str) -> dict[str, FileEntry]:
    """Upload every file below `folder` to `prefix` (which ends in "/"); return their entries by name. Raises StoreError."""
    entries = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        entries[name] = entry_of(path)
        store.upload(path, prefix + name)
    return entries


def verified_path(store: ObjectStore, key: str, entry: FileEntry) -> Path:
    """Return a local path to the object, its size and sha256 verified. Raises DamagedFile, StoreError."""
    try:
        path = store.local(key)
        if entry_of(path) != entry and store.forget(key):
            path = store.local(key)  # the local copy may be wrong, not the bucket
    except NotFound as error:
        raise DamagedFile("is missing") from error
    if entry_of(path) != entry:
        store.forget(key)
        raise DamagedFile("differs from its manifest")
    return path


def delete_all(store: ObjectStore, prefix: str) -> None:
    """Delete the manifest below `prefix` first, so that what is left of the folder is never read, then the files."""
    store.delete(f"{prefix}manifest.json")
    for key in list(store.keys(prefix)):
        store.delete(key)


def entry_of(path: Path) -> FileEntry:
    """Return the size and the hash of a local file."""
    with path.open("rb") as file:
        return FileEntry(hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size)
