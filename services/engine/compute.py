"""The Engine protocol (token ids in, features out), the batches it computes, and the scores of the answer.

Padding a whole request costs eight times its real tokens, sorting by length first a tenth (docs: performance). A batch is a
run of neighbours in the order of length, bounded by the padding that it adds and by a budget of tokens. The functions that
choose batches are pure: lengths in tokens, no clock, no state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from services.core.errors import EngineError

Features = NDArray[np.float32]
Logits = NDArray[np.float32]
TokenIds = Sequence[int]
_Item = TypeVar("_Item")

TOKEN_BUDGET = 2048
"""Tokens of a batch, padding included, if no request waits for it."""
STREAM_BUDGET = 256
"""The same if a request waits. Larger batches are no faster on CPUs (all-MiniLM-L6-v2 and BERT-base in int8: within
10 % from 256 to 2,048), and a single text waits for the batches being computed: 60 ms instead of 300."""
GPU_BUDGET = 32_768
"""The same on a GPU, whether or not a request waits: below it, launching the kernels takes longer than computing."""
_GPU_KINDS = ("torch-bf16", "torch-fp16")
MIN_BUDGET = 64
"""Below this, dividing the queue among idle streams costs more than it gains."""
_MAX_LOGIT = 80.0
"""Its exponential is a float32."""
_TINY = 1e-6
FREE_PADDING = 48
PADDING_SHARE = 0.1


class VersionKey(NamedTuple):
    """The key of a version among all projects."""

    project_key: str
    version: str


class Engine(Protocol):
    """An encoder's weights in memory. `forward` may be called from several threads at once."""

    kind: str
    """`ct2-int8`, `ct2-fp32`, `ort-int8`, `torch-fp32`, or on a GPU `torch-bf16` or `torch-fp16`: for batches, status and metrics."""
    width: int
    """Dimensions of a feature vector; of a classifier whose head is its own, the number of its logits."""

    def forward(self, batch: Sequence[TokenIds]) -> Features:
        """Return features of shape (len(batch), width), float32; rows may differ in length and are padded inside."""
        ...

    def close(self) -> None:
        """Free the memory; no call follows."""
        ...


@dataclass(frozen=True, slots=True)
class Scores:
    """Calibrated probabilities for some texts."""

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """Shape (texts, labels); each row sums to 1, unless a text may have several labels."""
    thresholds: NDArray[np.float32] | None = None
    """(labels,) where a text may have several labels: the probability from which on each is chosen. None: a text has one label."""

    def chosen(self, row: int) -> tuple[tuple[str, ...], float, float]:
        """Return the labels to suggest, their mean probability, and the prediction's score, by which Label Studio sorts.

        Without thresholds that is the most probable label, p1, and p1 / (p1 + p2); with them labels may be none, of probability 0.
        """
        if self.thresholds is None:
            label, probability, score = self.best(row)
            return (label,), probability, score
        found = self.probabilities[row]
        numbers = [
            number for number, is_chosen in enumerate((found >= self.thresholds).tolist()) if is_chosen
        ]
        mean = sum(found[numbers].tolist()) / max(1, len(numbers))
        return tuple(self.labels[number] for number in numbers), mean, float(certainty(found[None])[0])

    def best(self, row: int) -> tuple[str, float, float]:
        """Return the most probable label, its probability p1, and the prediction's score p1 / (p1 + p2)."""
        # As a list: numpy's sort releases the interpreter lock for some numbers, and under load waits long to have it again.
        probabilities: list[float] = self.probabilities[row].tolist()
        first = max(probabilities)
        label = self.labels[probabilities.index(first)]
        probabilities.remove(first)
        return label, first, first / (first + max(probabilities, default=0.0))


def padding_allowed(tokens: int) -> float:
    """Return the padding that a batch with so many real tokens may have."""
    return FREE_PADDING + PADDING_SHARE * tokens


def batch_budget(kind: str) -> int:
    """Return the tokens of a batch for which no request waits, by the kind of engine."""
    return GPU_BUDGET if kind in _GPU_KINDS else TOKEN_BUDGET


def token_budget(waiting_tokens: int, streams: int, kind: str = "") -> int:
    """Return the token budget of the next batch, so that the queue occupies all streams and not just one.

    On a GPU the batch takes all that waits: its streams would share one device.
    """
    if kind in _GPU_KINDS:
        return GPU_BUDGET
    return max(MIN_BUDGET, min(STREAM_BUDGET, waiting_tokens // streams))


def batch_window(
    items: Sequence[_Item], anchor: int, length: Callable[[_Item], int], budget: int = TOKEN_BUDGET
) -> tuple[int, int]:
    """Return the batch around `anchor`, items[start:stop] of `items`, which are sorted by length.

    The batch grows towards the neighbour that adds less padding, up to the padding bound or the budget. It always contains
    the anchor, however long it is.
    """
    start, stop, tokens = anchor, anchor + 1, length(items[anchor])
    while start > 0 or stop < len(items):
        longest, count = length(items[stop - 1]), stop - start
        below = longest - length(items[start - 1]) if start > 0 else None
        above = (length(items[stop]) - longest) * count if stop < len(items) else None
        downwards = above is None or (below is not None and below <= above)
        added = length(items[start - 1] if downwards else items[stop])
        padded = (longest if downwards else added) * (count + 1)
        tokens += added
        if padded > budget or padded - tokens > padding_allowed(tokens):
            break
        start, stop = (start - 1, stop) if downwards else (start, stop + 1)
    return start, stop


def plan_batches(
    lengths: Sequence[int], budget: int = TOKEN_BUDGET, *, padded: bool = True
) -> list[list[int]]:
    """Divide all rows into batches, the longest first: out-of-memory shows at once, and the last batches are short.

    With `padded` False, only rows of the same length share a batch.
    """
    order = sorted(range(len(lengths)), key=lengths.__getitem__)
    batches = []
    while order:
        start, _ = batch_window(order, len(order) - 1, lengths.__getitem__, budget)
        if not padded:
            start = next(n for n in range(start, len(order)) if lengths[order[n]] == lengths[order[-1]])
        batches.append(order[start:])
        del order[start:]
    return batches


def compute(engine: Engine, encoded: Sequence[TokenIds]) -> Features:
    """Compute features (texts, d) in sorted batches, and return them in the texts' order. Raises EngineError."""
    features = np.empty((len(encoded), engine.width), np.float32)
    for rows in plan_batches([len(ids) for ids in encoded], batch_budget(engine.kind)):
        features[rows] = forward(engine, [encoded[row] for row in rows])
    return features


def forward(engine: Engine, batch: Sequence[TokenIds]) -> Features:
    """Call `engine.forward` and check the shape of its answer. Raises EngineError."""
    features = engine.forward(batch)
    if features.shape != (len(batch), engine.width):
        raise EngineError(
            f"The model answered an array of shape {features.shape} for {len(batch)} texts and {engine.width} features."
        )
    return features


def softmax(logits: Logits, temperature: float = 1.0) -> Logits:
    """Return rows that sum to 1."""
    scaled = logits / np.float32(temperature)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)


def sigmoid(logits: Logits) -> Logits:
    """Return the probability of each label by itself."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -_MAX_LOGIT, _MAX_LOGIT))), dtype=np.float32)


def certainty(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (texts,) 1 minus the mean entropy of the labels in bits, of independent probabilities (texts, labels).

    The mean over labels needs a quarter fewer labelled texts than the largest entropy or the smallest margin (decision 48).
    """
    p = np.clip(probabilities, _TINY, 1 - _TINY)
    entropy = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return np.asarray(1 - entropy.mean(axis=1), np.float32)
