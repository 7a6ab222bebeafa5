"""Metrics where a text may have several labels, or none, from boolean matrices (texts, labels). numpy alone."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.accuracy import TOO_FEW
from services.core.domain import Estimate, ExpectedAccuracy
from services.core.intervals import wilson_interval
from services.trainer.evaluation.expected import MIN_LABELS, MIN_TEXTS

Flags = NDArray[np.bool_]
_MARGIN: Final = 0.7
"""With one labelled text: 10 points with 50."""
_LEAST_MARGIN: Final = 0.05


def f1_of_labels(found: Flags, true: Flags) -> NDArray[np.float64]:
    """Return each label's F1 (labels,); 0 for a label that was neither true nor found."""
    both = found.sum(axis=0) + true.sum(axis=0)
    scores: NDArray[np.float64] = 2 * (found & true).sum(axis=0) / np.maximum(both, 1)
    return scores


def micro_f1(found: Flags, true: Flags) -> float:
    """Return F1 over all labels together; 1 if there is no label in either."""
    both = int(found.sum() + true.sum())
    return 2 * int((found & true).sum()) / both if both else 1.0


def expected_f1(found: Flags, probabilities: NDArray[np.floating[Any]]) -> float | None:
    """Return the micro F1 to expect of answers to texts without labels, from calibrated probabilities; None without any label.

    By the ratio of expectations: 2 Σ p ŷ / (Σ ŷ + Σ p).
    """
    both = float(found.sum() + probabilities.sum(dtype=np.float64))
    return 2 * float((probabilities * found).sum(dtype=np.float64)) / both if both else None


def expected_of_sets(
    unseen: NDArray[np.float32] | None, thresholds: NDArray[np.float32], labelled: int
) -> ExpectedAccuracy:
    """Return the F1 to expect, from calibrated probabilities (m, labels) of the served model for unlabelled texts.

    The margin is twice what was measured as error (decision 48), which falls with the number of labelled texts.
    """
    if unseen is None or len(unseen) < MIN_TEXTS or labelled < MIN_LABELS:
        return ExpectedAccuracy(None, reason=TOO_FEW, measure="F1")
    share = expected_f1(unseen >= thresholds, unseen)
    margin = max(_LEAST_MARGIN, _MARGIN / math.sqrt(labelled))
    return ExpectedAccuracy(share, margin, len(unseen), "" if share is not None else TOO_FEW, measure="F1")


def estimate_sets(found: Flags, true: Flags, source: str, near_duplicate: Flags | None) -> Estimate:
    """Estimate F1, and the share of texts of which all labels are right, from out-of-sample answers.

    Macro-F1 is over labels with an evaluated text. Without `near_duplicate` (n,) both counts without near-duplicates are 0.
    """
    right = (found == true).all(axis=1)
    apart = np.zeros(len(true), np.bool_) if near_duplicate is None else ~near_duplicate
    low, high = wilson_interval(int(right.sum()), len(true))
    with_text = true.any(axis=0)
    return Estimate(
        judged=len(true),
        right=int(right.sum()),
        low=low,
        high=high,
        macro_f1=float(f1_of_labels(found, true)[with_text].mean()) if with_text.any() else 0.0,
        source=source,
        judged_without_near_duplicates=int(apart.sum()),
        right_without_near_duplicates=int((right & apart).sum()),
        micro_f1=micro_f1(found, true),
    )
