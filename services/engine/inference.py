"""The Inference port in this process: versions from the registry, checked and kept in memory, behind one scheduler.

The event loop never computes: texts become token ids in threads of this object, and logits in the scheduler's streams.
A version is loaded when it is first asked for or prepared, beside what is held, and only once it has answered a warm-up
of several lengths and its smoke test. Of an int8 version the fp32 weights are not read.
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
    """Answers for texts by versions in this process's memory."""

    def __init__(
        self,
        registry: Registry,
        settings: ServingSettings,
        guard: Callable[[str, str], AbstractContextManager[None]] = lambda *_: nullcontext(),
    ) -> None:
        """Nothing is loaded yet. Within `watched(project_key, version)` its files become a model in memory."""
        self._registry = registry
        self._guard = guard
        self._settings = settings
        budget = settings.memory_mb * 1e6 or math.inf
        self._models = ModelCache(self._load, settings.loaded_models, size=self._size, budget=budget)
        self._scheduler = Scheduler(settings.workers, settings.queue_texts)
        self._tokenising = ThreadPoolExecutor(max(2, settings.workers), thread_name_prefix="tokenise")
        self._gpu_memory: Callable[[], int] | None = None
        """Known once a version was loaded onto a GPU."""
        metrics.register(self)

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """One row a text, in order. Raises Overloaded, EngineError, StoreError."""
        held = self._acquire((project_key, version))
        try:
            model = await _await_model(held)
            loop = asyncio.get_running_loop()
            answer = await loop.run_in_executor(self._tokenising, self._submit, held, model, texts)
            # Shielded: a request that is given up must not let the model be closed while it computes for it.
            return await asyncio.shield(asyncio.wrap_future(answer))
        finally:
            held.release()

    async def ready(self) -> bool:
        """This process is there."""
        return True

    def prepare(self, project_key: str, version: str) -> None:
        """Load, warm and smoke-test a version, refused before or not. Raises EngineError, StoreError."""
        held = self._models.acquire((project_key, version), retry=True)
        try:
            held.future.result()
        finally:
            held.release()

    def loaded(self) -> list[VersionKey]:
        """Versions that are loaded and warmed, the least recently used first."""
        return [name for name in self._models.loaded_keys() if self._models.get(name)]

    def refusals(self) -> dict[VersionKey, FitloopError]:
        """Versions that could not be loaded within the last minute, and why."""
        return self._models.refusals()

    def has_room(self, project_key: str, version: str) -> bool:
        """Whether the version fits into memory beside all that is held. Blocks. Raises StoreError."""
        return self._models.has_room((project_key, version))

    def waiting_texts(self) -> int:
        """Texts that wait for a stream."""
        return self._scheduler.waiting

    def evict(self, project_key: str, version: str) -> None:
        """Let a version go, as soon as no request uses it."""
        self._models.evict((project_key, version))

    def state(self) -> metrics.EngineState:
        """What there is at this moment, for the metrics."""
        models = self._models.loaded().values()
        return metrics.EngineState(
            self._scheduler.waiting,
            self._settings.queue_texts,
            tuple(model.engine.kind for model, _ in models),
            sum(size for _, size in models),
            self._gpu_memory() if self._gpu_memory else None,
        )

    def close(self) -> None:
        """Answer what is asked, then free everything."""
        self._tokenising.shutdown()
        self._scheduler.close()
        self._models.close()
        metrics.unregister(self)

    def _acquire(self, name: VersionKey) -> LoadedModel:
        try:
            return self._models.acquire(name)
        except FitloopError:
            metrics.count_lookup("refused")
            raise

    def _submit(self, held: LoadedModel, model: Model, texts: Sequence[str]) -> Future[Scores]:
        held.acquire()
        try:
            answer = self._scheduler.submit(model, texts)
        except BaseException:
            held.release()
            raise
        answer.add_done_callback(lambda _: held.release())
        return answer

    def _load(self, name: VersionKey) -> Model:
        manifest = self._registry.manifest(*name)
        folder, given = self._folder(manifest), self._settings
        with self._guard(*name):
            model = load_model(
                folder, manifest.artefact, manifest.labels, given.workers, given.threads, given.device
            )
            model.logits_of(_WARM_UP)
            model.smoke_test()
        if given.device == "cuda":
            from services.engine.torch import gpu_memory

            self._gpu_memory = gpu_memory
        return model

    def _size(self, name: VersionKey) -> int:
        manifest = self._registry.manifest(*name)
        return sum(
            entry.size for file, entry in manifest.files.items() if is_needed(file, self._engine(manifest))
        )

    def _engine(self, manifest: Manifest) -> str:
        return "torch-bf16" if self._settings.device == "cuda" else manifest.artefact.engine

    def _folder(self, manifest: Manifest) -> Path:
        """The version's folder, each file that its engine reads checked. Raises CorruptVersion."""
        names = [name for name in manifest.files if is_needed(name, self._engine(manifest))]
        paths = [self._registry.file(manifest.project_key, manifest.version, name) for name in names]
        return paths[0].parents[names[0].count("/")]


async def _await_model(held: LoadedModel) -> Model:
    """The model, waited for where it is not loaded yet. Raises what refused it."""
    found: metrics.Lookup = "hit" if held.future.done() else "load"
    try:
        model = await asyncio.shield(asyncio.wrap_future(held.future))
    except FitloopError as error:
        metrics.count_lookup("refused")
        if isinstance(error, Overloaded):
            metrics.count_rejection("memory")
        raise
    metrics.count_lookup(found)
    return model


def is_needed(name: str, engine: str) -> bool:
    """Whether that engine reads the file: the int8 engine has its own weights below `ct2/`, which only it reads."""
    is_fp32_weights = "/" not in name and name.endswith(".safetensors")
    foreign = is_fp32_weights if engine == "ct2-int8" else name.startswith("ct2/") and engine == "torch-bf16"
    return name not in _NOT_FOR_ENGINES and not foreign
