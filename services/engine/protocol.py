"""The Engine Protocol: token ids in, logits out. Everything that serves goes through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Logits = NDArray[np.float32]
TokenIds = Sequence[int]
VersionKey = tuple[str, str]
"""Project key and version."""


class Engine(Protocol):
    """One version in memory. `forward` may be called from several threads at once."""

    kind: str
    """`ct2-int8`, `torch-fp32` or `torch-bf16`: for status and metrics."""

    def forward(self, batch: Sequence[TokenIds]) -> Logits:
        """Logits of shape (len(batch), labels), float32; rows may differ in length and are padded inside."""
        ...

    def close(self) -> None:
        """Free the memory; nothing is called afterwards."""
        ...


@dataclass(frozen=True, slots=True)
class Scores:
    """Calibrated probabilities for some texts."""

    labels: tuple[str, ...]
    probabilities: NDArray[np.float32]
    """Shape (texts, labels); each row sums to 1."""

    def best(self, row: int) -> tuple[str, float, float]:
        """The likeliest label, its probability p1, and the prediction's score p1 / (p1 + p2)."""
        probabilities = self.probabilities[row]
        order = np.argsort(probabilities)[::-1]
        first = float(probabilities[order[0]])
        second = float(probabilities[order[1]]) if len(order) > 1 else 0.0
        return self.labels[order[0]], first, first / (first + second)
