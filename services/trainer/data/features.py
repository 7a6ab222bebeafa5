"""Texts to what a linear probe is trained on: features of the base model's encoder, by the engine that will serve them.

Computed once per project and encoder, and stored in the bucket by text key. `auto` reuses them for its second method, and
near-duplicates are found by them. Names of labels are texts like any other here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from services.core.features import Features as StoredFeatures
from services.core.features import FeatureStore, Keys, key_array
from services.core.labels import text_key
from services.core.settings.training import available_cores
from services.engine.compute import batch_budget, plan_batches
from services.engine.encoder import INT8_FOLDERS, TextEncoder
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress

if TYPE_CHECKING:
    import torch

    from services.trainer.data.base_encoder import BaseEncoder
    from services.trainer.data.dataset import Dataset
    from services.trainer.process import Run

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]
MAX_POOL: Final = 4_000
"""Unlabelled texts that a run reads the features of: as many as a method trains on, and as many more to be evaluated on."""


@dataclass(frozen=True, slots=True)
class Features:
    """Features of all texts of a data set, in its order, and of what a project has besides them."""

    ids: list[list[int]]
    """Token ids, the prompt's included, cut at the model's length, not padded."""
    X: Floats
    """(texts, d)"""
    names: Floats
    """(labels, d) of the labels' names."""
    pool: Floats
    """(m, d) of unlabelled texts: those that are known, at most MAX_POOL, in an order that has nothing to do with what they say."""

    @property
    def tokens(self) -> int:
        """Return the tokens of all texts."""
        return sum(map(len, self.ids))


def shared_features(
    run: Run,
    encoder: BaseEncoder,
    project_key: str,
    dataset: Dataset,
    names: Sequence[str],
    pool: Callable[[], Keys],
) -> Features:
    """Return the features of the data set and of the labels' names; rank 0 computes those that the project has not stored, and
    stores them. Of the pool's texts, whose keys `pool` returns, those that are known are returned.

    All ranks get the same to the last bit, and so does a later run, which reads them from the bucket. Raises EngineError,
    StoreError, Preempted.
    """
    ids = encoder.encoder.encode(dataset.texts)
    n, k, width = len(ids), len(names), encoder.manifest.width
    if run.group.leads:
        store = FeatureStore(run.registry.store, project_key, encoder.digest, width)
        known, keys = store.load(), key_array([*dataset.keys, *map(text_key, names)])
        X = _stored_or_computed(run, store, known, encoder, keys, [*ids, *encoder.encoder.encode(names)])
        X = np.concatenate([X, _of_pool(known, pool(), keys[:n])])
        run.group.broadcast(X.tobytes() if run.group.size > 1 else b"", run.stop)
    else:
        X = np.frombuffer(run.group.broadcast(b"", run.stop), np.float32).reshape(-1, width).copy()
    return Features(ids, X[:n], X[n : n + k], X[n + k :])


def _of_pool(known: StoredFeatures, pool: Keys, labelled: Keys) -> Floats:
    """Return the known features (m, d) of unlabelled texts, in the order of their keys, which is a random one: at most MAX_POOL.

    A text that is labelled in another task is none of them.
    """
    rows = np.setdiff1d(known.rows(pool), known.rows(labelled))
    return known.x[rows[rows >= 0][:MAX_POOL]].astype(np.float32)


def _stored_or_computed(
    run: Run,
    store: FeatureStore,
    known: StoredFeatures,
    encoder: BaseEncoder,
    keys: Keys,
    ids: Sequence[list[int]],
) -> Floats:
    rows = known.rows(keys)
    missing = np.flatnonzero(rows < 0)
    X = np.empty((len(keys), encoder.manifest.width), np.float32)
    X[rows >= 0] = known.x[rows[rows >= 0]]
    wanted = [ids[row] for row in missing]
    computed = compute_features(
        encoder.encoder, wanted, run.progress, run.stop, padded=encoder.manifest.padded
    )
    if len(missing):
        store.append(keys[missing], computed)
    with np.errstate(over="ignore"):
        rounded = computed.astype(np.float16).astype(np.float32)  # as a later run will read them
    X[missing] = np.where(np.isfinite(rounded), rounded, computed)
    return X


def compute_features(
    encoder: TextEncoder, ids: Sequence[list[int]], progress: Progress, stop: Stop, *, padded: bool = True
) -> Floats:
    """Compute the features (texts, d) of these token ids. Raises EngineError, and Preempted between two batches."""
    progress.stage("features", steps=len(ids))
    X, done, started = np.empty((len(ids), encoder.width), np.float32), 0, time.perf_counter()

    def computed(batch: list[int]) -> tuple[list[int], Floats]:
        stop.check()
        return batch, encoder.engine.forward([ids[row] for row in batch])

    with workers(encoder.engine.kind) as pool:
        lengths, budget = [len(row) for row in ids], batch_budget(encoder.engine.kind)
        for batch, found in pool.map(computed, plan_batches(lengths, budget, padded=padded)):
            X[batch] = found
            done += len(batch)
            progress.step(done, texts_per_second=done / (time.perf_counter() - started))
    return X


def device_of() -> torch.device:
    """Return this process's CUDA device by its number, which other threads need, or else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextmanager
def one_thread_per_batch(device: torch.device) -> Iterator[Executor]:
    """Yield threads that compute a batch each by torch on one core each: two cores that share a batch wait for each other."""
    import torch

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(
        1 if device.type == "cuda" else threads, "stream", torch.set_num_threads, (1,)
    ) as pool:
        try:
            yield pool
        finally:
            torch.set_num_threads(threads)


@contextmanager
def workers(engine: str) -> Iterator[Executor]:
    """Yield threads that compute a batch each by an engine of this kind."""
    if engine in INT8_FOLDERS:
        with ThreadPoolExecutor(available_cores(), "stream") as pool:
            yield pool
        return
    with one_thread_per_batch(device_of()) as pool:
        yield pool
