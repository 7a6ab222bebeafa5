"""The processes of served versions of model classes: one for each version in use, at most as many as the settings allow."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from services.core.domain import Manifest
from services.core.errors import EngineError, FitloopError, Overloaded
from services.core.registry import Registry
from services.mlbackend import metrics
from services.mlbackend.calls import PredictCall
from services.mlbackend.folders import write_folder
from services.mlbackend.model_class import ModelClass, WorkerSettings
from services.mlbackend.process import Answers, WorkerProcess
from services.mlbackend.process_state import resident_bytes
from services.mlbackend.version_worker import VersionWorker

REFUSAL_SECONDS: Final = 60.0
"""For which a version that could not be loaded is reported as refused, and not started by requests."""
Key = tuple[str, str]
"""Project key and version."""
START_SECONDS: Final = 1.0
"""For which one who loads many versions waits for a class, before it goes on with the others."""
MAX_PER_PROJECT: Final = 2
"""Versions of a project in use: the served one, and the next or the previous one."""


class StillStarting(FitloopError):
    """A version's process is not ready yet; it is being started, and may be asked for again."""


class NoPlace(Overloaded):
    """As many processes run as may, and none of them may be ended for another version."""


class ClassWorkers:
    """The versions in use. Thread-safe; `close` ends all processes."""

    def __init__(self, registry: Registry, settings: WorkerSettings, limit: int) -> None:
        """`limit`: processes at once."""
        self._registry = registry
        self._settings = settings
        self._limit = limit
        self._workers: dict[Key, VersionWorker] = {}
        self._lock = threading.Lock()
        metrics.export(lambda: len(self._pids()), lambda: sum(map(resident_bytes, self._pids())))

    def prepare(self, key: Key, *, may_evict: bool = True, seconds: float | None = None) -> None:
        """Start and warm up a version, even if it was refused. Blocks. Raises ModelClassError, StoreError, NoPlace, Overloaded.

        Raises StillStarting after `seconds`, if given; the start goes on.
        """
        starting = self._worker(key, may_evict=may_evict).load()
        try:
            starting.result(seconds)
        except TimeoutError as error:
            raise StillStarting(f"The class of version {key[1]} is being loaded.") from error

    def predict(self, key: Key, call: PredictCall) -> Future[Answers]:
        """Call a version's class, which is started if it is not in use yet. Raises Overloaded, ModelClassError, StoreError."""
        with self._lock:
            found = self._workers.get(key)
        if found and found.error and time.monotonic() < found.failed_at + REFUSAL_SECONDS:
            raise type(found.error)(str(found.error))
        return (found or self._worker(key, may_evict=True)).predict(call)

    def loaded(self) -> list[Key]:
        """Return the versions that were warmed up, the least recently used first."""
        with self._lock:
            workers = sorted(self._workers.values(), key=lambda worker: worker.used_at)
        return [worker.key for worker in workers if worker.is_ready]

    def refusals(self) -> dict[Key, FitloopError]:
        """Return the versions that could not be started within the last minute, and why."""
        now = time.monotonic()
        with self._lock:
            workers = list(self._workers.values())
        return {one.key: one.error for one in workers if one.error and now < one.failed_at + REFUSAL_SECONDS}

    def evict(self, key: Key) -> None:
        """End a version's process, if it has one."""
        with self._lock:
            worker = self._workers.pop(key, None)
        if worker:
            worker.close("evicted")

    def close(self) -> None:
        """End all processes."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.close()

    def _pids(self) -> list[int]:
        with self._lock:
            return [pid for worker in self._workers.values() if (pid := worker.pid)]

    def _worker(self, key: Key, *, may_evict: bool) -> VersionWorker:
        with self._lock:
            if found := self._workers.get(key):
                return found
            dropped = self._make_room(key, may_evict=may_evict)
            made = self._workers[key] = VersionWorker(
                key, lambda folder: self._open(key, folder), self._settings.predict_seconds
            )
        for worker in dropped:
            worker.close("evicted")
        return made

    def _make_room(self, key: Key, *, may_evict: bool) -> list[VersionWorker]:
        """Take out versions that could not be started, then the least recently used ones. Raises NoPlace, Overloaded."""
        surplus = len(self._workers) + 1 - self._limit
        idle = [one for one in self._workers.values() if not one.is_busy and (may_evict or one.error)]
        idle.sort(key=lambda one: (one.error is None, one.used_at))
        if surplus > len(idle):
            error = Overloaded if may_evict else NoPlace
            raise error(f"{self._limit} processes of model classes run, the most of FITLOOP_MODEL_WORKERS.")
        siblings = [one for one in idle if one.key[0] == key[0]]
        others = sum(one[0] == key[0] for one in self._workers) + 1 - MAX_PER_PROJECT
        dropped = dict.fromkeys([*siblings[: max(0, others)], *idle][: max(0, surplus, others)])
        return [self._workers.pop(one.key) for one in dropped]

    def _open(self, key: Key, folder: Path) -> WorkerProcess:
        manifest = self._registry.manifest(*key)
        project = self._registry.project(key[0])
        write_folder(self._registry, manifest, folder)
        spec = ModelClass(_model(manifest), project.id, project.label_config)
        return WorkerProcess(spec, folder, self._settings, is_temporary=True)


def _model(manifest: Manifest) -> str:
    if manifest.own_model is None:
        raise EngineError(f"Version {manifest.version} has no class that could predict.")
    return manifest.own_model.model
