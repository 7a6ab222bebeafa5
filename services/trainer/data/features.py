"""Texts to what a linear probe is trained on: token ids, and mean-pooled, normalised vectors of the frozen encoder.

Computed once per run: `auto` reuses them for its second method, and near-duplicates are found by them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from services.engine.compute import plan_batches
from services.engine.tokenise import encode
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress

if TYPE_CHECKING:
    import torch

    from services.trainer.data.base_model import BaseModel
    from services.trainer.process import Run

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Features:
    """Features of all texts of a data set, in its order."""

    ids: list[list[int]]
    """Token ids, cut at the model's length, not padded."""
    X: Floats
    """(texts, d); each row has length 1."""
    seconds_per_token: float
    """The encoder's time per token, measured on this machine: fine-tuning is planned by it."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(row) for row in self.ids]


def shared_features(run: Run, base: BaseModel, texts: Sequence[str]) -> Features:
    """Compute the features in rank 0 and broadcast them, so that all ranks have the same to the last bit."""
    if run.group.leads:
        features = compute_features(base, texts, run.progress, run.stop)
        run.group.broadcast(features.X.tobytes() if run.group.size > 1 else b"", run.stop)
        return features
    ids = encode(base.tokenizer, texts)
    X = np.frombuffer(run.group.broadcast(b"", run.stop), np.float32).reshape(len(texts), -1).copy()
    return Features(ids, X, seconds_per_token=0.0)


def compute_features(base: BaseModel, texts: Sequence[str], progress: Progress, stop: Stop) -> Features:
    """Tokenise and encode all texts. Raises Preempted between two batches."""
    device = device_of()
    base.encoder.to(device)
    ids = encode(base.tokenizer, texts)
    progress.stage("features", steps=len(texts))
    X, done, started = np.empty((len(ids), base.width), np.float32), 0, time.perf_counter()

    def encoded(batch: list[int]) -> tuple[list[int], Floats]:
        stop.check()
        return batch, _encode(base, [ids[row] for row in batch], device)

    with base.errors.translate("read the texts"), one_thread_per_batch(device) as pool:
        for batch, found in pool.map(encoded, plan_batches([len(row) for row in ids], padded=base.padded)):
            X[batch] = found
            done += len(batch)
            progress.step(done, texts_per_second=done / (time.perf_counter() - started))
    seconds = time.perf_counter() - started
    return Features(ids, X, seconds / max(1, sum(map(len, ids))))


def device_of() -> torch.device:
    """Return this process's CUDA device by its number, which other threads need, or else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


@contextmanager
def one_thread_per_batch(device: torch.device) -> Iterator[Executor]:
    """Yield threads that compute a batch each on one core each: two cores that share a batch wait for each other."""
    import torch

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(
        1 if device.type == "cuda" else threads, "stream", torch.set_num_threads, (1,)
    ) as pool:
        try:
            yield pool
        finally:
            torch.set_num_threads(threads)


def _encode(base: BaseModel, rows: Sequence[list[int]], device: torch.device) -> Floats:
    import torch

    from services.engine.torch import encoder_of, forward, pad_batch
    from services.trainer.data.base_check import mean_pooled

    tokens, mask = pad_batch(rows, base.pad_id)
    mask = mask.to(device)
    with torch.inference_mode():
        hidden = forward(encoder_of(base.encoder), tokens.to(device), mask).last_hidden_state
        found: Floats = mean_pooled(hidden, mask).float().cpu().numpy()
    return found
