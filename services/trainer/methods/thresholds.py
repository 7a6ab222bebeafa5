"""From which logit on a label is chosen, and how probable it is: fitted to out-of-fold logits (texts, labels). Pure.

Rare labels need a threshold far below .5: their positives are outnumbered, and micro F1 wants them found. One threshold for each
label fits noise where a label has few examples, so each is shrunk towards the one that is best for all.

They suit the texts that they were fitted to: by its own thresholds the F1 of NLU++ reads 2 to 4 points too high. So the answers by which
a version is evaluated are calibrated and chosen fold by fold, with what the other folds' texts give.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.trainer.data.features import Flags, Floats, Rows
from services.trainer.methods import Choice

SHRINKAGE: Final = 10.0
"""Positive examples that the common threshold counts for."""
MAX_THRESHOLD: Final = 10.0
"""Of a threshold's calibrated logit: a probability within 5e-5 of 0 or 1."""
RIDGE: Final = 1.0
"""Of slope and shift, towards 1 and 0: a few texts change neither."""
MIN_SLOPE, MAX_SLOPE = 0.05, 20.0
_STEPS: Final = 50
_BEYOND: Final = 1.0
"""How far below the lowest logit a threshold is that chooses everything."""


def choose(logits: Floats, chosen: Flags) -> Choice:
    """Fit calibration and thresholds to the logits of texts with the labels `chosen`, both (texts, labels)."""
    slope, shift = calibrate(logits, chosen)
    found = slope * shrunk_thresholds(logits, chosen) + shift
    return Choice(slope, shift, np.clip(found, -MAX_THRESHOLD, MAX_THRESHOLD).astype(np.float32))


def apply_by_fold(logits: Floats, chosen: Flags, folds: Rows) -> Floats:
    """Apply to the logits of each fold what the texts of the others give; `folds`: (texts,). Returns what `Choice.apply` does."""
    found = np.empty(logits.shape, np.float32)
    for fold in np.unique(folds):
        inside = folds == fold
        found[inside] = choose(logits[~inside], chosen[~inside]).apply(logits[inside])
    return found


def shrunk_thresholds(logits: Floats, chosen: Flags) -> NDArray[np.float64]:
    """Return (labels,) thresholds: that of most F1 for each label, shrunk towards that of most micro F1."""
    common = best_threshold(logits.ravel(), chosen.ravel())
    positives = chosen.sum(axis=0)
    own = np.array([best_threshold(*pair) for pair in zip(logits.T, chosen.T, strict=True)])
    found: NDArray[np.float64] = (positives * own + SHRINKAGE * common) / (positives + SHRINKAGE)
    return found


def best_threshold(logits: Floats, chosen: Flags) -> float:
    """Return the threshold (both arguments are (n,)) of most F1, half-way between two logits; 0 if nothing is chosen."""
    positives = int(chosen.sum())
    if not positives:
        return 0.0
    order = np.argsort(-logits, kind="stable")
    descending = logits[order].astype(np.float64)
    hits = np.cumsum(chosen[order])
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + positives)
    following = np.append(descending[1:], descending[-1] - 2 * _BEYOND)
    f1[descending == following] = 0  # between equal logits there is no threshold
    best = int(f1.argmax())
    return float(descending[best] + following[best]) / 2


def calibrate(logits: Floats, chosen: Flags) -> tuple[float, float]:
    """Return slope and shift for all labels, of least log loss with a ridge towards 1 and 0, by Newton's method."""
    z, y = logits.ravel().astype(np.float64), chosen.ravel()
    if not len(z) or not np.isfinite(z).all():
        return 1.0, 0.0
    rows = np.stack([z, np.ones_like(z)])
    found = start = np.array([1.0, 0.0])
    value = _loss(rows, y, found, start)
    for _ in range(_STEPS):
        p = 1 / (1 + np.exp(-np.clip(found @ rows, -80, 80)))
        gradient = rows @ (p - y) + RIDGE * (found - start)
        step = np.linalg.solve((rows * (p * (1 - p))) @ rows.T + RIDGE * np.eye(2), gradient)
        better = next(
            (
                one
                for one in (found - step / 2**half for half in range(20))
                if _loss(rows, y, one, start) < value
            ),
            None,
        )
        if better is None:
            break
        found, value = better, _loss(rows, y, better, start)
    return float(np.clip(found[0], MIN_SLOPE, MAX_SLOPE)), float(found[1])


def _loss(
    rows: NDArray[np.float64], y: Flags, found: NDArray[np.float64], start: NDArray[np.float64]
) -> float:
    logits = found @ rows
    ridge = RIDGE / 2 * float(((found - start) ** 2).sum())
    return float((np.logaddexp(0, logits) - y * logits).sum()) + ridge
