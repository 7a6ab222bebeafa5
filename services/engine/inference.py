"""The Inference port in this process: versions from the registry, verified and cached in memory, behind one scheduler.

The event loop never computes: texts are tokenised in threads of this object, logits computed in the scheduler's streams. A
version is loaded on its first request or by `prepare`, and counts as loaded once it has passed a warm-up of several lengths
and its smoke test. The fp32 weights of an int8 version are not read.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from services.core.domain import Manifest
from services.core.errors import FitloopError, Overloaded
from services.core.registry import Registry
from services.core.settings import ServingSettings
from services.engine import metrics
from services.engine.cache import LoadedModel, ModelCache
from services.engine.compute import Scores, VersionKey
from services.engine.model import Model, load_model
from services.engine.scheduler import Scheduler

_WARM_UP = ("a", "a text of a few words", "a longer text, " * 20, "a text that is cut, " * 200)
_NOT_FOR_ENGINES = ("oos.json", "report.json")
"""Files of a version that no engine reads."""


class LocalInference:
    """Scores texts with versions in this process's memory."""

    def __init__(
        self,
        registry: Registry,
        settings: ServingSettings,
        guard: Callable[[str, str], AbstractContextManager[None]] = lambda *_: nullcontext(),
    ) -> None:
        """`guard(project_key, version)` is entered while the version is being loaded."""
        self._registry = registry
        self._guard = guard
        self._settings = settings
        budget = settings.memory_mb * 1e6 or math.inf
        self._models = ModelCache(self._load, settings.loaded_models, size=self._size, budget=budget)
        self._scheduler = Scheduler(settings.workers, settings.queue_texts)
        self._tokenising = ThreadPoolExecutor(max(2, settings.workers), thread_name_prefix="tokenise")
        self._gpu_memory: Callable[[], int] | None = None
        """Set once a version was loaded onto a GPU."""
        metrics.register(self)

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """Return one row per text, in order. Raises Overloaded, EngineError, StoreError."""
        loaded = self._acquire(VersionKey(project_key, version))
        try:
            model = await _await_model(loaded)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._tokenising, self._submit, loaded, model, texts)
            # Shielded: cancelling a request must not close the model while it computes for it.
            return await asyncio.shield(asyncio.wrap_future(answer))
        finally:
            loaded.release()

    async def ready(self) -> bool:
        """Return True: this process can answer."""
        return True

    def prepare(self, project_key: str, version: str) -> None:
        """Load, warm and smoke-test a version, even if it was refused before. Raises EngineError, StoreError."""
        loaded = self._models.acquire(VersionKey(project_key, version), retry=True)
        try:
            loaded.future.result()
        finally:
            loaded.release()

    def loaded(self) -> list[VersionKey]:
        """Return the versions that are loaded and warmed, the least recently used first."""
        return [key for key in self._models.loaded_keys() if self._models.get(key)]

    def refusals(self) -> dict[VersionKey, FitloopError]:
        """Return the versions that could not be loaded within the last minute, and why."""
        return self._models.refusals()

    def has_room(self, project_key: str, version: str) -> bool:
        """Return whether the version fits into memory without evicting another. Blocks. Raises StoreError."""
        return self._models.has_room(VersionKey(project_key, version))

    def waiting_texts(self) -> int:
        """Return the number of texts that wait for a stream."""
        return self._scheduler.waiting

    def evict(self, project_key: str, version: str) -> None:
        """Evict a version as soon as no request uses it."""
        self._models.evict(VersionKey(project_key, version))

    def state(self) -> metrics.EngineState:
        """Return the current state, for the metrics."""
        models = self._models.loaded().values()
        return metrics.EngineState(
            self._scheduler.waiting,
            self._settings.queue_texts,
            tuple(model.engine.kind for model, _ in models),
            sum(size for _, size in models),
            self._gpu_memory() if self._gpu_memory else None,
        )

    def close(self) -> None:
        """Answer the pending requests, then free all memory."""
        self._tokenising.shutdown()
        self._scheduler.close()
        self._models.close()
        metrics.unregister(self)

    def _acquire(self, key: VersionKey) -> LoadedModel:
        try:
            return self._models.acquire(key)
        except FitloopError:
            metrics.count_lookup("refused")
            raise

    def _submit(self, loaded: LoadedModel, model: Model, texts: Sequence[str]) -> Future[Scores]:
        loaded.acquire()
        try:
            answer = self._scheduler.submit(model, texts)
        except BaseException:
            loaded.release()
            raise
        answer.add_done_callback(lambda _: loaded.release())
        return answer

    def _load(self, key: VersionKey) -> Model:
        manifest = self._registry.manifest(*key)
        folder, settings = self._folder(manifest), self._settings
        with self._guard(*key):
            model = load_model(
                folder,
                manifest.artefact,
                manifest.labels,
                settings.workers,
                settings.threads,
                settings.device,
            )
            model.logits_of(_WARM_UP)
            model.smoke_test()
        if settings.device == "cuda":
            from services.engine.torch import gpu_memory

            self._gpu_memory = gpu_memory
        return model

    def _size(self, key: VersionKey) -> int:
        manifest = self._registry.manifest(*key)
        return sum(
            entry.size for file, entry in manifest.files.items() if is_needed(file, self._engine(manifest))
        )

    def _engine(self, manifest: Manifest) -> str:
        return "torch-bf16" if self._settings.device == "cuda" else manifest.artefact.engine

    def _folder(self, manifest: Manifest) -> Path:
        """Return the version's folder after verifying each file that its engine reads. Raises CorruptVersion."""
        names = [name for name in manifest.files if is_needed(name, self._engine(manifest))]
        paths = [self._registry.file(manifest.project_key, manifest.version, name) for name in names]
        return paths[0].parents[names[0].count("/")]


async def _await_model(loaded: LoadedModel) -> Model:
    """Wait for the model. Raises the error of its load."""
    found: metrics.Lookup = "hit" if loaded.future.done() else "load"
    try:
        model = await asyncio.shield(asyncio.wrap_future(loaded.future))
    except FitloopError as error:
        metrics.count_lookup("refused")
        if isinstance(error, Overloaded):
            metrics.count_rejection("memory")
        raise
    metrics.count_lookup(found)
    return model


def is_needed(name: str, engine: str) -> bool:
    """Return whether that engine reads the file: the int8 engine alone reads the weights below `ct2/`."""
    is_fp32_weights = "/" not in name and name.endswith(".safetensors")
    foreign = is_fp32_weights if engine == "ct2-int8" else name.startswith("ct2/") and engine == "torch-bf16"
    return name not in _NOT_FOR_ENGINES and not foreign
