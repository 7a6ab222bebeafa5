"""The folder of a process's temporary files: of a process that was killed, the next one on the machine removes it.

Each such folder holds a file that its process has locked; the kernel takes the lock back however the process dies.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from services.core.errors import StoreError

_PREFIX = "fitloop-trainer-"
_LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in which this process's temporary files are made from now on, and which goes at the end. Raises StoreError."""
    before = tempfile.tempdir
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    try:
        folder, handle = _make(parent)
    except OSError as error:
        raise StoreError(f"No folder can be made in {parent}: {error.strerror or error}.") from error
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _make(parent: Path) -> tuple[Path, int]:
    """A new folder, and its lock. It gets its name once it is locked, so that nobody takes it for a dead one's."""
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    handle = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return made.rename(parent / made.name[1:]), handle


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # its process is at work
        finally:
            os.close(handle)
