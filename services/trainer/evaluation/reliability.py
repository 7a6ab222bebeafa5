"""Whether probabilities are what they say: answers counted by probability, in equal steps. numpy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 15
_DIGITS: Final = 4
_MIN_CLUSTERS: Final = 5
"""Texts below which how much their answers depend on each other cannot be told: each text then counts once."""

Counts = NDArray[np.int64]
Sums = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Reliability:
    """Answers by probability; all arrays are (bins,)."""

    texts: Counts
    """Texts with an answer in the bin."""
    answers: Counts
    """As many as texts, unless a text may have several labels: then each label of each text has an answer, yes or no."""
    probability: Sums
    """Sum of the probabilities of the answers."""
    right: Sums
    """Correct answers."""
    independent: Sums
    """How many independent answers would vary as much by chance: the answers to one text are not independent of each other."""

    @property
    def error(self) -> float:
        """The expected calibration error; 0.0 without answers."""
        return float(np.abs(self.probability - self.right).sum() / max(1, self.answers.sum()))

    def rows(self) -> list[dict[str, object]]:
        """Return the bins as report.json has them."""
        bins = len(self.texts)
        return [
            {
                "from": round(number / bins, _DIGITS),
                "to": round((number + 1) / bins, _DIGITS),
                "texts": int(self.texts[number]),
                "answers": int(self.answers[number]),
                "independent": round(float(self.independent[number]), 1),
                "probability": share(self.probability[number], self.answers[number]),
                "right": share(self.right[number], self.answers[number]),
            }
            for number in range(bins)
        ]


def reliability(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[np.int64], bins: int = BINS
) -> Reliability:
    """Count texts by the top probability of (n, labels)."""
    top = probabilities.max(axis=1, initial=0.0).astype(np.float64)
    index = _bin_of(top, bins)
    texts = np.bincount(index, minlength=bins).astype(np.int64)
    right = np.bincount(index, probabilities.argmax(axis=1) == targets, minlength=bins).astype(np.float64)
    sums = np.bincount(index, top, minlength=bins).astype(np.float64)
    return Reliability(texts, texts, sums, right, texts.astype(np.float64))


def reliability_of_labels(
    probabilities: NDArray[np.floating[Any]], true: NDArray[np.bool_], bins: int = BINS
) -> Reliability:
    """Count the answers of each label to each text, from independent probabilities (n, labels).

    The variance of the share of true answers is taken from the sums of each text (clustered); that of independent answers divided
    by it gives their number, at least the texts and at most the answers.
    """
    p, y = probabilities.ravel().astype(np.float64), true.ravel().astype(np.float64)
    index = _bin_of(p, bins)
    answers = np.bincount(index, minlength=bins)
    sums, right = (np.bincount(index, column, minlength=bins).astype(np.float64) for column in (p, y))
    apart = y - p - ((right - sums) / np.maximum(answers, 1))[index]
    place = np.repeat(np.arange(len(true)) * bins, true.shape[1]) + index
    of_texts = [np.bincount(place, column, minlength=len(true) * bins) for column in (None, apart)]
    counted, residuals = (one.reshape(-1, bins) for one in of_texts)
    texts = (counted > 0).sum(axis=0)
    alone = np.bincount(index, np.square(apart), minlength=bins)
    # Residuals from the bin's own mean: those of few texts nearly cancel out.
    clustered = np.square(residuals).sum(axis=0) * texts / np.maximum(texts - 1, 1)
    ratio = np.divide(alone, clustered, out=np.ones(bins), where=clustered > alone / np.maximum(answers, 1))
    independent = np.where(texts < _MIN_CLUSTERS, texts, np.clip(answers * ratio, texts, answers))
    return Reliability(texts.astype(np.int64), answers.astype(np.int64), sums, right, independent)


def share(part: float, whole: float) -> float | None:
    """Return a share for report.json; None of nothing."""
    return round(float(part / whole), _DIGITS) if whole else None


def _bin_of(probabilities: Sums, bins: int) -> Counts:
    return np.clip(np.ceil(probabilities * bins).astype(np.int64) - 1, 0, bins - 1)
