"""The Leadership and Rollout ports in one process: a lock on the data folder, and versions loaded here."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from services.adapter.leader.workers import Finished, Workers
from services.adapter.ports import RolloutStatus
from services.core.errors import UNUSABLE_VERSION, BadConfig, FitloopError, Locked
from services.engine.compute import VersionKey
from services.predictor import metrics

if TYPE_CHECKING:
    from services.engine.inference import LocalInference

_RETRY_SECONDS: Final = 60.0
"""Until a bad version that is still wanted is loaded again: its files may have been restored."""


def lock_folder(folder: Path) -> int:
    """Create the folder if needed and lock it with an flock until the returned handle is closed or the process dies.

    Raises Locked with the holder's pid, or BadConfig.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise BadConfig(
            f"The data folder {folder} cannot be used: {error.strerror}. Choose another one with --data or MODEL_DIR."
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
            f"Another `fitloop local` (process {pid or 'unknown'}) is using {folder}: "
            "stop it first, or choose another folder with --data."
        ) from error
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)


class FileLeadership:
    """Leads while it holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._handle: int | None = None

    def start(self, on_change: Callable[[], None], is_working: Callable[[], bool] = lambda: True) -> None:
        """Take the lock unless it is held already. Raises Locked with the holder's pid, or BadConfig.

        The lead stays whether or not this process `is_working`: no other could take it.
        """
        del is_working
        if self._handle is None:
            self._handle = lock_folder(self._folder)
        on_change()

    def leads(self, seconds: float = 0.0) -> bool:
        """Return whether the lock is held; no process can take it away, however long a write takes."""
        del seconds
        return self._handle is not None

    def resign(self, seconds: float) -> None:
        """Do nothing: no other process could lead meanwhile, so this one starts a new term at once."""

    def stop(self) -> None:
        """Release the lock."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)


@dataclass(slots=True)
class _Load:
    """The load of a version."""

    is_done: bool = False
    error: Exception | None = None
    """Of the last attempt. A bad version stays bad until it is withdrawn, or loaded after all."""
    retry_at: float = 0.0


class LocalRollout:
    """A rollout that is done once this process has loaded the version. A worker loads, since that takes seconds."""

    flip_seconds = 0.0
    """No other process has to flip at the same time."""

    def __init__(
        self, inference: LocalInference, workers: Workers, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._inference = inference
        self._workers = workers
        self._clock = clock
        self._loads: dict[VersionKey, _Load] = {}
        """The loads that a rollout waits for."""

    def advance(self, project_key: str, version: str, now: float, encoder: str = "") -> RolloutStatus:
        """Return done once the version is loaded, warmed and smoke-tested. Raises EngineError, StoreError."""
        del now, encoder
        return self.check(project_key, version)

    def check(self, project_key: str, version: str) -> RolloutStatus:
        """Do the same as `advance`: the served version is loaded here."""
        key = VersionKey(project_key, version)
        self._workers.deliver()
        load = self._loads.setdefault(key, _Load())
        if load.is_done or key in self._inference.loaded():
            del self._loads[key]
            return RolloutStatus(done=True)
        if self._clock() >= load.retry_at:
            self._workers.submit(key, partial(self._load, key), partial(self._finished, key))
        if load.error is None:
            return RolloutStatus(done=False, reason="it is being loaded")
        if not isinstance(load.error, UNUSABLE_VERSION):
            del self._loads[key]
        raise load.error

    def withdraw(self, project_key: str, version: str) -> None:
        """Forget a load; an unused version is evicted in time."""
        self._loads.pop(VersionKey(project_key, version), None)

    def poll(self, now: float) -> None:
        """Do nothing: no rollout is in progress between two calls."""

    def _load(self, key: VersionKey) -> None:
        began = time.perf_counter()
        try:
            self._inference.prepare(*key)
        except FitloopError as error:
            metrics.count_load("refused" if metrics.is_refusal(error) else "failed")
            raise
        metrics.count_load("loaded", time.perf_counter() - began)

    def _finished(self, key: VersionKey, finished: Finished[None]) -> None:
        if load := self._loads.get(key):
            load.is_done, load.error = finished.error is None, finished.error
            load.retry_at = self._clock() + _RETRY_SECONDS


def export_versions(inference: LocalInference) -> None:
    """Export loaded and refused versions as a predictor does; a version that is only unavailable is not refused."""
    metrics.export_versions(
        inference.loaded,
        lambda: [error for error in inference.refusals().values() if metrics.is_refusal(error)],
    )
