"""Texts to what a linear probe learns from: token ids, and mean-pooled, normalised vectors of the frozen encoder.

Computed once a run; `auto` hands them on to the second method, and near-duplicates are found among them.
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


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(texts, tokens, d) and the mask of real tokens, to the mean's direction (texts, d)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    normalised: torch.Tensor = mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)
    return normalised


@dataclass(frozen=True, slots=True)
class Features:
    """All texts of a data set, in its order."""

    ids: list[list[int]]
    """Token ids, cut at the model's length, not padded."""
    X: NDArray[np.float32]
    """(texts, d); each row has length 1."""
    seconds_per_token: float
    """How long the encoder took for each token, on this machine now: what fine-tuning is planned by."""

    @property
    def lengths(self) -> list[int]:
        """Tokens of each text."""
        return [len(row) for row in self.ids]


def compute_features(base: BaseModel, texts: Sequence[str], progress: Progress, stop: Stop) -> Features:
    """Tokenise and encode all texts. Raises Preempted between two batches."""
    device = device_of()
    base.encoder.to(device)
    ids = encode(base.tokenizer, texts)
    progress.stage("features", steps=len(texts))
    X, done, started = np.empty((len(ids), base.width), np.float32), 0, time.perf_counter()

    def encoded(batch: list[int]) -> tuple[list[int], NDArray[np.float32]]:
        stop.check()
        return batch, _encode(base, [ids[row] for row in batch], device)

    with base.errors.translate("read the texts"), streams(device) as pool:
        for batch, found in pool.map(encoded, plan_batches([len(row) for row in ids], padded=base.padded)):
            X[batch] = found
            done += len(batch)
            progress.step(done, texts_per_second=done / (time.perf_counter() - started))
    seconds = time.perf_counter() - started
    return Features(ids, X, seconds / max(1, sum(map(len, ids))))


def _encode(base: BaseModel, rows: Sequence[Sequence[int]], device: torch.device) -> NDArray[np.float32]:
    import torch

    from services.engine.torch import encoder_of, forward

    tokens, mask = padded(rows, base.pad_id)
    mask = mask.to(device)
    with torch.inference_mode():
        hidden = forward(encoder_of(base.encoder), tokens.to(device), mask).last_hidden_state
        found: NDArray[np.float32] = mean_pooled(hidden, mask).float().cpu().numpy()
    return found


@contextmanager
def streams(device: torch.device) -> Iterator[Executor]:
    """Threads that compute a batch each, on one core each: two cores that share a batch wait for each other."""
    import torch

    threads = torch.get_num_threads()
    with ThreadPoolExecutor(
        1 if device.type == "cuda" else threads, "stream", torch.set_num_threads, (1,)
    ) as pool:
        try:
            yield pool
        finally:
            torch.set_num_threads(threads)


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids filled up on the right, and the mask of the real ones; both int64 (texts, longest)."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def device_of() -> torch.device:
    """This process's CUDA device where there is one, by its number, which other threads need; else the CPU."""
    import torch

    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


Floats = NDArray[np.float32]

Rows = NDArray[np.int64]

Flags = NDArray[np.bool_]
