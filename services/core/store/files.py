"""A folder as an ObjectStore: each object is a file, written to a temporary file, synced, and renamed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from services.core.errors import NotFound, StoreError
from services.core.store import PARTIAL, Entry, check_key, check_prefix, max_bytes, object_too_large

_SWEEP_AGE_SECONDS = 60.0
_MKDIR_ATTEMPTS = 5
"""To create a folder that another process removes."""


class FileStore:
    """An ObjectStore in the folder `root`, which is created on the first write."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.url = root.as_uri()

    def read(self, key: str) -> bytes:
        """Return the object's bytes. Raises NotFound."""
        most = max_bytes(key)
        try:
            with self._path(key).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = file.read(most + 1) if size <= most else b""
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
            raise NotFound(f"{self.url} has no object {key!r}.") from error
        except OSError as error:
            raise StoreError(f"{key!r} cannot be read from {self.url}: {error.strerror or error}.") from error
        if max(size, len(data)) > most:
            raise object_too_large(key, self.url, max(size, len(data)))
        return data

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        """Return the object's bytes and a mark of its state; None if it is unchanged since `mark`. Raises NotFound."""
        with self._translate_errors(key, "read from"):
            found = self._path(key).stat()
        now = f"{found.st_ino}-{found.st_mtime_ns}-{found.st_size}"  # a write is a new file that is moved in
        return None if now == mark else (self.read(key), now)

    def write(self, key: str, data: bytes) -> None:
        """Write the object atomically."""
        self._write_atomically(key, lambda file: file.write(data))

    def upload(self, source: Path, key: str) -> None:
        """Copy a local file of any size atomically."""

        def copy(file: IO[bytes]) -> None:
            with source.open("rb") as original:
                shutil.copyfileobj(original, file, 1 << 20)

        self._write_atomically(key, copy)

    def local(self, key: str) -> Path:
        """Return the object's own path. Raises NotFound."""
        path = self._path(key)
        with self._translate_errors(key, "read from"):
            is_there = path.is_file()
        if not is_there:
            raise NotFound(f"{self.url} has no object {key!r}.")
        return path

    def forget(self, key: str) -> bool:
        """Return False: `local` makes no copies."""
        self._path(key)
        return False

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        """List all objects whose key begins with `prefix`, sorted by key, without those deleted meanwhile."""
        found = []
        for key in self.keys(prefix):
            with contextlib.suppress(FileNotFoundError):
                state = (self.root / key).stat()
                found.append(Entry(key, state.st_size, state.st_mtime))
        return iter(found)

    def keys(self, prefix: str = "") -> Iterator[str]:
        """List all keys that begin with `prefix`, sorted."""
        found = (
            path.relative_to(self.root).as_posix()
            for path in self._walk(check_prefix(prefix))
            if not path.name.startswith(PARTIAL)
        )
        return iter(sorted(key for key in found if key.startswith(prefix)))

    def folders(self, prefix: str) -> list[str]:
        """List the names directly below `prefix` that contain objects, sorted."""
        check_prefix(prefix)
        try:
            with self._translate_errors(prefix, "listed in"), os.scandir(self.root / prefix) as entries:
                names = [entry.name for entry in entries if entry.is_dir()]
        except NotFound:
            return []
        return sorted(name for name in names if any(self.keys(f"{prefix}{name}/")))

    def delete(self, key: str) -> None:
        """Delete the object, and folders that become empty."""
        path = self._path(key)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
            self._remove_empty(path.parent)
        with self._translate_errors(key, "deleted from"):
            is_there = path.exists()
        if is_there:
            raise StoreError(f"{key!r} cannot be deleted from {self.url}: check the folder's rights.")

    def sweep(self, now: float) -> int:
        """Remove remains of killed writes, and return how many. Call it only while no other process starts to write.

        Files written in the last minute stay: a trainer whose parent was killed may still be writing.
        """
        old = [path for path in self._walk("") if path.name.startswith(PARTIAL)]
        swept = 0
        for path in old:
            with contextlib.suppress(OSError):
                if now - path.stat().st_mtime > _SWEEP_AGE_SECONDS:
                    path.unlink()
                    swept += 1
                    self._remove_empty(path.parent)
        return swept

    def _remove_empty(self, folder: Path) -> None:
        """Remove the folder and its parents up to the first that is not empty. Raises OSError there."""
        while folder != self.root:
            folder.rmdir()
            folder = folder.parent

    def _walk(self, prefix: str) -> Iterator[Path]:
        """Yield every file below the folder that `prefix` begins with. A folder that cannot be listed is an error, not empty."""

        def failed(error: OSError) -> None:
            if not isinstance(error, FileNotFoundError | NotADirectoryError):
                raise StoreError(
                    f"{prefix!r} cannot be listed in {self.url}: {error.strerror or error}."
                ) from error

        start = self.root / prefix.rpartition("/")[0]
        for folder, _, names in os.walk(start, onerror=failed):
            yield from (Path(folder) / name for name in names)

    @contextlib.contextmanager
    def _translate_errors(self, key: str, verb: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, NotADirectoryError) as error:
            raise NotFound(f"{self.url} has no object {key!r}.") from error
        except OSError as error:
            raise StoreError(f"{key!r} cannot be {verb} {self.url}: {error.strerror or error}.") from error

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _write_atomically(self, key: str, fill: Callable[[IO[bytes]], object]) -> None:
        path = self._path(key)
        partial: str | None = None
        try:
            handle, partial = _open_beside(path)
            with os.fdopen(handle, "wb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            Path(partial).replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            if partial is not None:
                Path(partial).unlink(missing_ok=True)
            raise StoreError(
                f"{key!r} cannot be written to {self.url}: {error.strerror or error}."
            ) from error


def _open_beside(path: Path) -> tuple[int, str]:
    """Create a temporary file beside `path`; retry if a concurrent delete has just removed the folder.

    FileExistsError too: the folder existed when it was to be created, and was gone when it was checked.
    """
    for _ in range(_MKDIR_ATTEMPTS):
        with contextlib.suppress(FileNotFoundError, FileExistsError):
            path.parent.mkdir(parents=True, exist_ok=True)
            return tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    return tempfile.mkstemp(prefix=PARTIAL, dir=path.parent)


def _sync_folder(folder: Path) -> None:
    """Sync the folder: only then does a rename survive a power failure."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
