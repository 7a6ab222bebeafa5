"""The Leadership port in one process: the lock on the data folder. Who holds it leads, from start to end."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path

from services.adapter.ports import RolloutStatus
from services.core.errors import BadConfig, FitloopError, Locked
from services.engine.inference import LocalInference
from services.predictor import metrics


def lock_folder(folder: Path) -> int:
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
        _flock(handle, folder)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _flock(handle: int, folder: Path) -> None:
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


class FileLeadership:
    """Leads while it holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        """Nothing is held yet."""
        self._folder = folder
        self._handle: int | None = None

    def start(self, on_change: Callable[[], None]) -> None:
        """Take the lock, if it is not ours already. Raises Locked with the holder's pid, or BadConfig."""
        if self._handle is None:
            self._handle = lock_folder(self._folder)
        on_change()

    def leads(self, seconds: float = 0.0) -> bool:
        """Whether the lock is held: nobody can take it away, however long a write takes."""
        del seconds
        return self._handle is not None

    def stop(self) -> None:
        """Give the lock back."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


class LocalRollout:
    """Done as soon as this process holds the version."""

    flip_seconds = 0.0
    """There is nobody to agree with."""

    def __init__(self, inference: LocalInference) -> None:
        """Nothing is loaded yet."""
        self._inference = inference

    def advance(self, project_key: str, version: str, now: float) -> RolloutStatus:
        """Load, warm and smoke-test the version; blocks. Raises EngineError, StoreError."""
        del now
        return self.check(project_key, version)

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """The same: what serves here is held here."""
        is_load = (project_key, version) not in self._inference.loaded()
        began = time.perf_counter()
        try:
            self._inference.prepare(project_key, version)
        except FitloopError as error:
            metrics.count_load("refused" if metrics.is_refusal(error) else "failed")
            raise
        if is_load:
            metrics.count_load("loaded", time.perf_counter() - began)
        return RolloutStatus(done=True)

    def withdraw(self, project_key: str, version: str) -> None:
        """Nothing to do: what is not used leaves memory by itself."""

    def poll(self, now: float) -> None:
        """Nothing to do: nothing goes on between two calls."""
