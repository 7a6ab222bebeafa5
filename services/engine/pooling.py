"""From the hidden states of a text's tokens to its features: pooling, dense layers of the base model, L2 normalisation.

In numpy, over a whole batch. The modes are sentence-transformers' and are computed as there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain import Pooling
from services.core.errors import UnknownFormat
from services.engine.head import Floats, Layer

Lengths = NDArray[np.int64]


def _mask(hidden: Floats, lengths: Lengths) -> Floats:
    """Return (texts, tokens, 1): 1 for real tokens, 0 for padding."""
    real = np.arange(hidden.shape[1])[None, :] < lengths[:, None]
    return real.astype(np.float32)[:, :, None]


def _sum(hidden: Floats, lengths: Lengths) -> Floats:
    return np.asarray((hidden * _mask(hidden, lengths)).sum(axis=1))


def _mean(hidden: Floats, lengths: Lengths) -> Floats:
    return np.asarray(_sum(hidden, lengths) / lengths[:, None], np.float32)


def _mean_sqrt_length(hidden: Floats, lengths: Lengths) -> Floats:
    return np.asarray(_sum(hidden, lengths) / np.sqrt(lengths[:, None]), np.float32)


def _weighted_mean(hidden: Floats, lengths: Lengths) -> Floats:
    weights = _mask(hidden, lengths) * np.arange(1, hidden.shape[1] + 1, dtype=np.float32)[None, :, None]
    return np.asarray((hidden * weights).sum(axis=1) / weights.sum(axis=1))


def _first(hidden: Floats, lengths: Lengths) -> Floats:
    del lengths
    return hidden[:, 0]


def _last(hidden: Floats, lengths: Lengths) -> Floats:
    return np.asarray(hidden[np.arange(len(hidden)), lengths - 1])


def _max(hidden: Floats, lengths: Lengths) -> Floats:
    return np.asarray(np.where(_mask(hidden, lengths) > 0, hidden, -np.inf).max(axis=1))


MODES: Final[dict[str, Callable[[Floats, Lengths], Floats]]] = {
    "cls": _first,
    "lasttoken": _last,
    "max": _max,
    "mean": _mean,
    "mean_sqrt_len_tokens": _mean_sqrt_length,
    "weightedmean": _weighted_mean,
}
"""By the names of sentence-transformers' `pooling_mode`: (texts, tokens, d) and real tokens of each text to (texts, d)."""


@dataclass(frozen=True, slots=True)
class Pooler:
    """`mode` over the real tokens, then the base model's dense layers, then L2 normalisation if it has that."""

    mode: str
    normalize: bool
    layers: tuple[Layer, ...] = ()

    def pool(self, hidden: Floats, lengths: Sequence[int]) -> Floats:
        """Pool hidden states (texts, tokens, d) to features; `lengths` counts each text's real tokens."""
        features = MODES[self.mode](hidden, np.asarray(lengths, np.int64))
        for layer in self.layers:
            features = layer.apply(features)
        if self.normalize:
            norms = np.linalg.norm(features, axis=1, keepdims=True)
            features = features / np.maximum(norms, np.float32(1e-12))
        return np.asarray(features, dtype=np.float32)


def pooler_of(pooling: Pooling, layers: tuple[Layer, ...] = ()) -> Pooler:
    """Return the pooler that a manifest describes. Raises UnknownFormat for a mode of a newer release."""
    if pooling.mode not in MODES:
        raise UnknownFormat(f"The pooling {pooling.mode!r} is unknown to this release: upgrade Fitloop.")
    return Pooler(pooling.mode, pooling.normalize, layers)
