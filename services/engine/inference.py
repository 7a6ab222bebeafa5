"""The Inference port in this process: heads and encoders from the registry, verified and cached, behind one scheduler.

The event loop never computes: texts are tokenised in threads of this object, features and logits computed in the scheduler's
streams. A version is loaded on its first request or by `prepare`: its head is read, and its encoder loaded unless another
version has it in memory. An encoder counts as loaded once it has passed a warm-up of several lengths and its smoke test.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from typing import Final

from services.core.domain import Manifest
from services.core.errors import EngineError, FitloopError, Overloaded
from services.core.http.limits import memory_limit
from services.core.registry import Registry
from services.core.settings import ServingSettings
from services.engine import metrics
from services.engine.cache import CachedEncoder, EncoderCache, NoRoom
from services.engine.compute import Scores, VersionKey
from services.engine.futures import result_of, result_of_second
from services.engine.heads import HeadCache, LoadedHead
from services.engine.loading import EncoderKey, Load, Loader, Weights, encoder_key, text_encoder_of
from services.engine.model import Model
from services.engine.queued import is_small
from services.engine.recent import Known, RecentFeatures
from services.engine.scheduler import Scheduler

MEMORY_SHARE: Final = 0.6
"""Of the memory limit, for weights; the rest is for batches, requests, tokenizers and the process itself."""
HEAD_SHARE: Final = 1 / 8
"""Of the budget of weights, for heads beside it."""
_WARM_UP = ("a", "a text of a few words", "a longer text, " * 20, "a text that is cut, " * 200)


class LocalInference:
    """Scores texts with versions in this process's memory."""

    def __init__(
        self,
        registry: Registry,
        settings: ServingSettings,
        guard: Callable[[EncoderKey, int], AbstractContextManager[None]] = lambda *_: nullcontext(),
    ) -> None:
        """`guard(key, bytes)` is entered while an encoder is being loaded."""
        self._registry = registry
        self._loader = Loader(registry, settings.workers, settings.threads, settings.device)
        self._guard = guard
        self._settings = settings
        budget = settings.memory_mb * 1e6 or MEMORY_SHARE * memory_limit()
        self._encoders = EncoderCache(self._plan, budget, settings.loaded_models, time.monotonic)
        self._heads = HeadCache(self._read_head, HEAD_SHARE * budget, self._encoders.evict, time.monotonic)
        self._scheduler = Scheduler(settings.workers, settings.queue_texts)
        self._recent = RecentFeatures(time.monotonic)
        self._tokenising = ThreadPoolExecutor(max(2, settings.workers), thread_name_prefix="tokenise")
        self._gpu_memory: Callable[[], int] | None = None
        """Set once an encoder was loaded onto a GPU."""
        metrics.register(self)

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """Return one row per text, in order. Raises Overloaded, EngineError, StoreError."""
        key = VersionKey(project_key, version)
        with _counted_refusals():
            found = self._heads.get(key)
            head = await result_of(self._heads.request(key)) if found is None else found
            encoder = self._encoders.acquire(head.encoder, project_key)
        try:
            with _counted_refusals():
                is_loaded = found is not None and encoder.future.done()
                model = head.model(await result_of(encoder.future))
            metrics.count_lookup("hit" if is_loaded else "load")
            if self._scheduler.idle and is_small(texts):
                return await result_of(self._submit(encoder, model, texts, project_key, defer=True))
            return await result_of_second(
                self._tokenising.submit(self._submit, encoder, model, texts, project_key)
            )
        finally:
            encoder.release()

    async def ready(self) -> bool:
        """Return True: this process can answer."""
        return True

    def prepare(
        self, project_key: str, version: str, *, may_evict: bool = True, may_load: bool = True
    ) -> None:
        """Load and check a version, even if it was refused before. Blocks. Raises EngineError, StoreError.

        What was refused is an encoder of several versions: then it is not read again before a request might. Raises NoRoom
        if its encoder is not in memory and may not be loaded, or if another one would have to be evicted and may not;
        Overloaded if all are in use.
        """
        key = VersionKey(project_key, version)
        head = self._heads.request(key, retry=True).result()
        if not may_load and head.encoder not in self._encoders.loaded():
            raise NoRoom(f"The {head.encoder} of version {version} is not in memory.")
        is_own = not head.encoder.digest
        encoder = self._encoders.acquire(
            head.encoder, project_key, ahead=True, may_evict=may_evict, retry=is_own
        )
        try:
            self._check(key, head, encoder.future.result())
        finally:
            encoder.release()

    def read_heads(self, keys: Iterable[VersionKey]) -> None:
        """Read these versions' heads at the same time, even those refused before. Blocks; `prepare` raises what went wrong."""
        wait([self._heads.request(key, retry=True) for key in keys])

    def loaded(self) -> list[VersionKey]:
        """Return the versions whose head and encoder are in memory, the least recently used first."""
        encoders = self._encoders.loaded()
        return [key for key, head in self._heads.items() if head.encoder in encoders]

    def is_loaded(self, project_key: str, version: str) -> bool:
        """Return whether a request for the version would wait for no load."""
        head = self._heads.get(VersionKey(project_key, version))
        return head is not None and self._encoders.get(head.encoder) is not None

    def loaded_encoders(self) -> list[str]:
        """Return the digests of the shared encoders in memory."""
        return [key.digest for key in self._encoders.loaded() if key.digest]

    def refusals(self) -> dict[VersionKey, FitloopError]:
        """Return the versions that could not be loaded within the last minute, and why."""
        encoders = self._encoders.refusals()
        return self._heads.refusals() | {
            key: encoders[head.encoder] for key, head in self._heads.items() if head.encoder in encoders
        }

    def waiting_texts(self) -> int:
        """Return the number of texts that wait for a stream."""
        return self._scheduler.waiting

    def evict(self, project_key: str, version: str) -> None:
        """Drop a version, and its encoder as soon as no request uses it, unless another version needs it."""
        self._heads.evict(VersionKey(project_key, version))

    def state(self) -> metrics.EngineState:
        """Return the current state, for the metrics."""
        encoders = self._encoders.loaded()
        heads = [head for _, head in self._heads.items()]
        active, active_bytes = self._encoders.active()
        return metrics.EngineState(
            waiting_texts=self._scheduler.waiting,
            queue_limit_texts=self._settings.queue_texts,
            kinds=tuple(
                text_encoder_of(encoders[head.encoder][0]).engine.kind
                for head in heads
                if head.encoder in encoders
            ),
            loaded_bytes=sum(size for _, size in encoders.values()) + sum(head.size for head in heads),
            encoders=len(encoders),
            heads=len(heads),
            budget_bytes=self._encoders.budget,
            encoder_limit=self._encoders.limit,
            active_encoders=active,
            active_bytes=active_bytes,
            gpu_memory_bytes=self._gpu_memory() if self._gpu_memory else None,
        )

    def close(self) -> None:
        """Answer the pending requests, then free all memory."""
        self._tokenising.shutdown()
        self._scheduler.close()
        self._heads.close()
        self._encoders.close()
        metrics.unregister(self)

    def _submit(
        self,
        encoder: CachedEncoder,
        model: Model,
        texts: Sequence[str],
        project_key: str,
        *,
        defer: bool = False,
    ) -> Future[Scores]:
        encoder.acquire()
        try:
            known = self._recent.find(encoder.key, texts, model.encoder.width)
            answer = self._scheduler.submit(model, texts, project_key, known, defer=defer)
        except BaseException:
            encoder.release()
            raise
        answer.add_done_callback(lambda done: self._finish(done, encoder, known))
        return answer

    def _finish(self, answer: Future[Scores], encoder: CachedEncoder, known: Known) -> None:
        encoder.release()
        if not answer.cancelled() and not answer.exception():
            self._recent.keep(known)

    def _check(self, key: VersionKey, head: LoadedHead, weights: Weights) -> None:
        try:
            head.model(weights)
        except EngineError as error:
            self._heads.refuse(key, error)
            raise

    def _read_head(self, key: VersionKey) -> LoadedHead:
        return self._head_of(self._registry.manifest(*key))

    def _head_of(self, manifest: Manifest) -> LoadedHead:
        """Return the version without its encoder. Raises EngineError, CorruptVersion, StoreError."""
        encoder = encoder_key(manifest)
        if not encoder.digest:
            return LoadedHead(manifest.labels, encoder, None, 0)
        head = self._loader.head(manifest)
        if not head.is_finite():
            raise EngineError(
                f"The head of version {manifest.version} has weights that are not finite: train again."
            )
        return LoadedHead(manifest.labels, encoder, head, head.size)

    def _plan(self, key: EncoderKey) -> Load:
        load = self._loader.plan(key)
        return Load(load.size, lambda: self._load(key, load))

    def _load(self, key: EncoderKey, load: Load) -> Weights:
        with self._guard(key, load.size):
            weights = load.read()
            text_encoder_of(weights).features_of(_WARM_UP)
            weights.smoke_test()
        if self._settings.device == "cuda":
            from services.engine.torch import gpu_memory

            self._gpu_memory = gpu_memory
        return weights


@contextlib.contextmanager
def _counted_refusals() -> Iterator[None]:
    try:
        yield
    except FitloopError as error:
        metrics.count_lookup("refused")
        if isinstance(error, Overloaded):
            metrics.count_rejection("memory")
        raise
