"""Whether probabilities are what they say: answers counted by probability, in equal steps. numpy alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

BINS: Final = 15
_DIGITS: Final = 4
_ANSWERS: Final = 1_000_000
"""Counted at once: some 70 MB, where all answers to 50,000 texts of 500 labels took 1.3 GB."""
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
    answers, texts = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    sums, right, alone, clustered = (np.zeros(bins) for _ in range(4))
    for part in _parts(probabilities, true, bins):
        answers += part.sum_up(None).astype(np.int64)
        sums += part.sum_up(part.p)
        right += part.sum_up(part.y)
    means = (right - sums) / np.maximum(answers, 1)
    for part in _parts(probabilities, true, bins):
        # Residuals from the bin's own mean: those of few texts nearly cancel out.
        apart = part.y - part.p - means[part.bin]
        texts += (part.sum_by_text(None) > 0).sum(axis=0)
        alone += part.sum_up(np.square(apart))
        clustered += np.square(part.sum_by_text(apart)).sum(axis=0)
    independent = _independent(answers, texts, alone, clustered)
    return Reliability(texts, answers, sums, right, independent)


def _independent(answers: Counts, texts: Counts, alone: Sums, clustered: Sums) -> Sums:
    """Return the number of independent answers in each bin, from sums of squares: of each answer, and of the sum of each text's."""
    clustered = clustered * texts / np.maximum(texts - 1, 1)
    is_known = clustered > alone / np.maximum(answers, 1)
    ratio = np.divide(alone, clustered, out=np.ones(len(alone)), where=is_known)
    return np.where(texts < _MIN_CLUSTERS, texts, np.clip(answers * ratio, texts, answers))


@dataclass(frozen=True, slots=True)
class _Part:
    """All answers to some of the texts; the arrays are (answers,)."""

    p: Sums
    y: Sums
    """1 for a label that the text has, else 0."""
    bin: Counts
    text: Counts
    """Number of the text among these."""
    bins: int

    def sum_up(self, values: Sums | None) -> Sums:
        """Return the values' sum in each bin (bins,); without values, how many answers it has."""
        return np.bincount(self.bin, values, self.bins).astype(np.float64)

    def sum_by_text(self, values: Sums | None) -> Sums:
        """Return the same of each text (texts, bins)."""
        places, texts = self.text * self.bins + self.bin, int(self.text[-1]) + 1
        return np.bincount(places, values, texts * self.bins).astype(np.float64).reshape(texts, self.bins)


def _parts(probabilities: NDArray[np.floating[Any]], true: NDArray[np.bool_], bins: int) -> Iterator[_Part]:
    """Divide all answers into parts of about a million, so that no table of them all is made in float64."""
    labels = true.shape[1]
    step = max(1, _ANSWERS // max(1, labels))
    for start in range(0, len(true) if labels else 0, step):
        p = probabilities[start : start + step].ravel().astype(np.float64)
        y = true[start : start + step].ravel().astype(np.float64)
        yield _Part(p, y, _bin_of(p, bins), np.arange(len(p)) // labels, bins)


def share(part: float, whole: float) -> float | None:
    """Return a share for report.json; None of nothing."""
    return round(float(part / whole), _DIGITS) if whole else None


def _bin_of(probabilities: Sums, bins: int) -> Counts:
    return np.clip(np.ceil(probabilities * bins).astype(np.int64) - 1, 0, bins - 1)
