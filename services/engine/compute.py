"""The Engine protocol (token ids in, logits out), the batches it computes, and the scores of the answer.

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

Logits = NDArray[np.float32]
TokenIds = Sequence[int]
_Item = TypeVar("_Item")

TOKEN_BUDGET = 2048
"""Tokens of a batch, padding included, if no request waits for it."""
STREAM_BUDGET = 256
"""The same if a request waits. Larger batches are no faster on CPUs (all-MiniLM-L6-v2 and BERT-base in int8: within
10 % from 256 to 2,048), and a single text waits for the batches being computed: 60 ms instead of 300."""
MIN_BUDGET = 64
"""Below this, dividing the queue among idle streams costs more than it gains."""
FREE_PADDING = 48
PADDING_SHARE = 0.1


class VersionKey(NamedTuple):
    """The key of a version among all projects."""

    project_key: str
    version: str


class Engine(Protocol):
    """One version in memory. `forward` may be called from several threads at once."""

    kind: str
    """`ct2-int8`, `torch-fp32` or `torch-bf16`: for status and metrics."""

    def forward(self, batch: Sequence[TokenIds]) -> Logits:
        """Return logits of shape (len(batch), labels), float32; rows may differ in length and are padded inside."""
        ...

    def close(self) -> None:
        """Free the memory; no call follows."""
        ...


@dataclass(frozen=True, slots=True)
class Scores:
    """Calibrated probabilities for some texts."""

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """Shape (texts, labels); each row sums to 1."""

    def best(self, row: int) -> tuple[str, float, float]:
        """Return the most probable label, its probability p1, and the prediction's score p1 / (p1 + p2)."""
        probabilities = self.probabilities[row]
        order = np.argsort(probabilities)[::-1]
        first = float(probabilities[order[0]])
        second = float(probabilities[order[1]]) if len(order) > 1 else 0.0
        return self.labels[order[0]], first, first / (first + second)


def padding_allowed(tokens: int) -> float:
    """Return the padding that a batch with so many real tokens may have."""
    return FREE_PADDING + PADDING_SHARE * tokens


def token_budget(waiting_tokens: int, streams: int) -> int:
    """Return the token budget of the next batch, so that the queue occupies all streams and not just one."""
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


def compute(engine: Engine, encoded: Sequence[TokenIds], labels: int) -> Logits:
    """Compute logits (texts, labels) in sorted batches, and return them in the texts' order. Raises EngineError."""
    logits = np.empty((len(encoded), labels), np.float32)
    for rows in plan_batches([len(ids) for ids in encoded]):
        logits[rows] = forward(engine, [encoded[row] for row in rows], labels)
    return logits


def forward(engine: Engine, batch: Sequence[TokenIds], labels: int) -> Logits:
    """Call `engine.forward` and check the shape of its answer. Raises EngineError."""
    logits = engine.forward(batch)
    if logits.shape != (len(batch), labels):
        raise EngineError(
            f"The model answered logits of shape {logits.shape} for {len(batch)} texts and {labels} labels."
        )
    return logits


def softmax(logits: Logits, temperature: float = 1.0) -> Logits:
    """Return rows that sum to 1."""
    scaled = logits / np.float32(temperature)
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float32)
