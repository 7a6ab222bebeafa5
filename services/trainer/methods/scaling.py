"""Centred and scaled features: x → (x - m) / r, so that the constants of fits hold for every encoder.

Encoders differ in how long their vectors are and in what all of them share: e5's have cosines of .7 to 1. Both are removed before
anything is fitted, and folded into the head afterwards: what is served reads the encoder's own features.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.trainer.data.features import Floats
from services.trainer.methods import Head

_SMALLEST: Final = 1e-6
"""A mean distance, relative to the features' length, that is rounding alone: all texts have the same features."""


@dataclass(frozen=True, slots=True)
class Scale:
    """The centre of a project's texts, and their mean distance from it."""

    centre: Floats
    """(d,)"""
    length: float

    @classmethod
    def of(cls, X: Floats, pool: Floats) -> Scale:
        """Take both from labelled texts (n, d) and unlabelled ones (m, d)."""
        rows = np.concatenate([X, pool])
        if not len(rows):
            return cls(np.zeros(X.shape[1], np.float32), 1.0)
        centre = rows.mean(axis=0, dtype=np.float64).astype(np.float32)
        length = float(np.linalg.norm(rows - centre, axis=1).mean(dtype=np.float64))
        smallest = _SMALLEST * float(np.linalg.norm(rows, axis=1).mean(dtype=np.float64))
        return cls(centre, length if length > smallest else 1.0)

    def apply(self, X: Floats) -> Floats:
        """Return the features (n, d) centred and scaled."""
        return np.asarray((X - self.centre) / np.float32(self.length), np.float32)

    def fold(self, head: Head) -> Head:
        """Return the head for features as the encoder gives them, of one for centred and scaled ones."""
        weight = np.asarray(head.weight / np.float32(self.length), np.float32)
        return Head(weight, np.asarray(head.bias - weight @ self.centre, np.float32))
