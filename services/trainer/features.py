"""Texts to what a linear probe learns from: token ids, and mean-pooled, normalised vectors of the frozen encoder.

Computed once a run; `auto` hands them on to the second method, and near-duplicates are found among them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from services.engine.batches import plan
from services.engine.tokenise import encode
from services.trainer.preemption import Stop
from services.trainer.progress import Progress

if TYPE_CHECKING:
    import torch

    from services.trainer.base import Base


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


def compute_features(base: Base, texts: Sequence[str], progress: Progress, stop: Stop) -> Features:
    """Tokenise and encode all texts. Raises Preempted between two batches."""
    import torch

    device = device_of()
    encoder = base.encoder.to(device)
    ids = encode(base.tokenizer, texts)
    batches = plan([len(row) for row in ids])
    progress.stage("features", steps=len(texts))
    X, done = np.empty((len(ids), base.config.hidden_size), np.float32), 0
    started = time.perf_counter()
    with torch.inference_mode():
        for batch in batches:
            stop.check()
            tokens, mask = padded([ids[row] for row in batch], base.pad_id)
            hidden = encoder(input_ids=tokens.to(device), attention_mask=mask.to(device)).last_hidden_state
            X[batch] = mean_pooled(hidden, mask.to(device)).float().cpu().numpy()
            done += len(batch)
            progress.step(done, texts_per_second=done / (time.perf_counter() - started))
    seconds = time.perf_counter() - started
    return Features(ids, X, seconds / max(1, sum(map(len, ids))))


def mean_pooled(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """(texts, tokens, d) and the mask of real tokens, to the mean's direction (texts, d)."""
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    mean = (hidden * weights).sum(1) / weights.sum(1)
    return mean / mean.norm(dim=1, keepdim=True).clamp_min(1e-12)


def padded(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids filled up on the right, and the mask of the real ones; both int64 (texts, longest)."""
    import torch

    longest = max(len(row) for row in rows)
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids, mask


def device_of() -> Any:
    """The first CUDA device where there is one, else the CPU."""
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
