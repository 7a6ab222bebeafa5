"""Local copies of a bucket's objects: each complete, of one known state, and limited in total size.

`<root>/<store>/objects/<key>` is the copy, `<root>/<store>/marks/<key>` the mark (ETag) of the object's state. Several
processes may share the folder. It never contains two states of one key.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

_RECENT_SECONDS = 600.0
"""More recent copies may be in the middle of a load, file by file."""


class Cache:
    """Local copies of one store's objects. Methods raise OSError if the folder is not writable."""

    def __init__(self, folder: Path | None, url: str, megabytes: float) -> None:
        """Use `folder`, or a temporary one that is removed with the process. Nothing is created yet."""
        self._folder = folder
        self._name = hashlib.sha256(url.encode()).hexdigest()[:12]
        self._limit = megabytes * 1e6

    def path(self, key: str) -> Path:
        """Return where the copy is, or would be."""
        return self._root() / self._name / "objects" / key

    def mark(self, key: str) -> str:
        """Return the mark of the copied state; "" if there is no copy."""
        try:
            mark, size = self._mark(key).read_text(encoding="utf-8").split("\n")
            return mark if self.path(key).stat().st_size == int(size) else ""
        except (OSError, ValueError):
            return ""

    def touch(self, key: str) -> Path:
        """Return the copy, and note that it was used just now."""
        os.utime(self._mark(key))
        return self.path(key)

    def store(self, key: str, fill: Callable[[IO[bytes]], str]) -> Path:
        """Create the copy atomically; `fill` writes the bytes and returns their mark."""
        path, mark = self.path(key), self._mark(key)
        for folder in (path.parent, mark.parent):
            folder.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(prefix=".partial-", dir=mark.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                state = fill(file)
                size = file.tell()
            mark.unlink(missing_ok=True)  # so that a kill here leaves an untrusted copy
            Path(partial).replace(path)
        except BaseException:
            Path(partial).unlink(missing_ok=True)
            raise
        mark.write_text(f"{state}\n{size}", encoding="utf-8")
        self.prune(time.time())
        return path

    def forget(self, key: str) -> bool:
        """Remove the copy; return whether there was one."""
        self._mark(key).unlink(missing_ok=True)
        path = self.path(key)
        was_there = path.is_file()
        path.unlink(missing_ok=True)
        return was_there

    def prune(self, now: float) -> None:
        """Remove the least recently used copies beyond the limit, and incomplete ones of killed processes."""
        root = self._root()
        found = []
        for mark in (path for path in root.glob("*/marks/**/*") if path.is_file()):
            copy = _copy_of(root, mark)
            with contextlib.suppress(OSError):
                asked = mark.stat().st_mtime
                size = mark.stat().st_size if copy is None else copy.stat().st_size
                found.append((asked, size, mark, copy))
        excess = sum(size for _, size, _, _ in found) - self._limit
        for asked, size, mark, copy in sorted(found, key=lambda one: one[0]):
            if now - asked > _RECENT_SECONDS and (excess > 0 or copy is None):
                mark.unlink(missing_ok=True)
                if copy:
                    copy.unlink(missing_ok=True)
                excess -= size

    def _mark(self, key: str) -> Path:
        return self._root() / self._name / "marks" / key

    def _root(self) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="fitloop-cache-"))
            atexit.register(shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


def _copy_of(root: Path, mark: Path) -> Path | None:
    """Return the copy that a mark belongs to; None for an incomplete copy."""
    store, _, *key = mark.relative_to(root).parts
    return None if mark.name.startswith(".partial-") else root.joinpath(store, "objects", *key)
