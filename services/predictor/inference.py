"""Inference of one process: texts by the engine, tasks by the classes of users, whichever the version needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from services.core.domain import Manifest
from services.core.errors import EngineError, FitloopError
from services.core.registry import Registry
from services.core.settings import ServingSettings, Settings
from services.engine.cache import NoRoom
from services.engine.compute import VersionKey
from services.engine.heads import LoadedHead
from services.engine.inference import LocalInference
from services.engine.loading import EncoderKey
from services.mlbackend.calls import PredictCall, TaskPredictions, named
from services.mlbackend.model_class import worker_settings
from services.mlbackend.workers import ClassWorkers, NoPlace

Guard = Callable[[EncoderKey, int], AbstractContextManager[None]]


class NeedsClass(EngineError):
    """A class computes the version's answers, of tasks and not of texts."""


class VersionInference(LocalInference):
    """All kinds of versions, in this process and in its children."""

    def __init__(
        self,
        registry: Registry,
        settings: ServingSettings,
        classes: ClassWorkers,
        guard: Guard = lambda *_: nullcontext(),
    ) -> None:
        """`guard`: as of LocalInference."""
        super().__init__(registry, settings, guard)
        self._classes = classes

    async def predict_tasks(self, project_key: str, version: str, call: PredictCall) -> list[TaskPredictions]:
        """Return each task's predictions, in order. Raises Overloaded, EngineError, StoreError."""
        answers = await asyncio.wrap_future(self._classes.predict((project_key, version), call))
        return [named(found, version) for found in answers.predictions]

    def prepare(
        self,
        project_key: str,
        version: str,
        *,
        may_evict: bool = True,
        may_load: bool = True,
        seconds: float | None = None,
    ) -> None:
        """Load and check a version, as LocalInference does, or start its class.

        Raises StillStarting if that takes more than `seconds`: a class that hangs must not delay other projects.
        """
        try:
            super().prepare(project_key, version, may_evict=may_evict, may_load=may_load)
        except NeedsClass:
            if not may_load and not self._is_of_class(project_key, version):
                raise NoRoom(f"The process of version {version} does not run.") from None
            try:
                self._classes.prepare((project_key, version), may_evict=may_evict, seconds=seconds)
            except NoPlace as error:
                raise NoRoom(str(error)) from error

    def read_heads(self, keys: Iterable[VersionKey]) -> None:
        """Read the heads of versions that have one."""
        super().read_heads([key for key in keys if not self._is_of_class(*key)])

    def loaded(self) -> list[VersionKey]:
        """Return the versions in memory, those of classes last."""
        return [*super().loaded(), *(VersionKey(*key) for key in self._classes.loaded())]

    def is_loaded(self, project_key: str, version: str) -> bool:
        """Return whether a request for the version would wait for no load."""
        return self._is_of_class(project_key, version) or super().is_loaded(project_key, version)

    def refusals(self) -> dict[VersionKey, FitloopError]:
        """Return the versions that could not be loaded within the last minute, and why."""
        texts = {key: why for key, why in super().refusals().items() if not isinstance(why, NeedsClass)}
        return texts | {VersionKey(*key): why for key, why in self._classes.refusals().items()}

    def evict(self, project_key: str, version: str) -> None:
        """Drop a version, or end its class's process."""
        super().evict(project_key, version)
        self._classes.evict((project_key, version))

    def close(self) -> None:
        """End all processes, then what LocalInference has."""
        self._classes.close()
        super().close()

    def _is_of_class(self, project_key: str, version: str) -> bool:
        return (project_key, version) in self._classes.loaded()

    def _head_of(self, manifest: Manifest) -> LoadedHead:
        if manifest.own_model:
            raise NeedsClass(
                f"Version {manifest.version} is computed by {manifest.own_model.model}, which answers tasks and not texts."
            )
        return super()._head_of(manifest)


def build_inference(
    registry: Registry, settings: Settings, guard: Guard = lambda *_: nullcontext()
) -> VersionInference:
    """Return inference as the settings say."""
    classes = ClassWorkers(registry, worker_settings(settings), settings.own_model.workers)
    return VersionInference(registry, settings.serving, classes, guard)
