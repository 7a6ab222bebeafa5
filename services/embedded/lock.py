"""One process a data folder: an flock on `<folder>/lock`, which the kernel takes back when the process dies."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from services.core.errors import BadConfig, Locked


def take(folder: Path) -> int:
    """Hold the folder, which is made where it is missing, until the handle is closed.

    Raises Locked with the holder's pid, or BadConfig.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadConfig(
            f"The data folder {folder} cannot be used: {error.strerror}. Name another one with --data or MODEL_DIR."
        ) from error
    try:
        _lock(handle, folder)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _lock(handle: int, folder: Path) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        pid = os.pread(handle, 20, 0).decode("ascii", "replace").strip()
        raise Locked(
            f"Another `fitloop local` (process {pid or 'unknown'}) works on {folder}: "
            "stop it first, or name another folder with --data."
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
