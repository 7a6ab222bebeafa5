"""Whether probabilities are what they say, from the bins of a report: of answers at 80 %, 80 % should be correct. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from services.core.domain import ReliabilityBin, Report
from services.core.intervals import wilson_interval

MIN_TEXTS: Final = 20
"""Evaluated texts below which nothing is said."""
_CLEARLY: Final = 1.5
"""Times the error that chance alone gives, from which probabilities are called too high or too low."""


@dataclass(frozen=True, slots=True)
class Bin:
    """Answers with a probability above `start`, up to `end`."""

    start: float
    end: float
    answers: int
    probability: float
    """Mean."""
    right: float
    """Share of correct answers ..."""
    low: float
    high: float
    """... with its 95 % interval (Wilson)."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """The bins that have answers, and what they come to."""

    bins: tuple[Bin, ...]
    error: float
    """Expected calibration error: the mean difference of probability and share of correct answers, by answers."""
    by_chance: float
    """The error that perfectly calibrated probabilities would have on so few texts, on average."""
    excess: float
    """Mean probability minus accuracy: positive if probabilities are too high."""
    texts: int
    """Evaluated texts."""

    @property
    def answers(self) -> int:
        """As many as texts, unless a text may have several labels: then each label of each text has one."""
        return sum(one.answers for one in self.bins)


def calibration_of(report: Report) -> Calibration | None:
    """Return a report's calibration; None if it has no bins, or too few texts."""
    filled = [(number, one) for number, one in enumerate(report.reliability) if one.texts > 0]
    texts = report.judged or sum(one.texts for _, one in filled)
    if texts < MIN_TEXTS or not filled:
        return None
    bins = tuple(_bin(number, len(report.reliability), one) for number, one in filled)
    answers = sum(one.answers for one in bins)
    gaps = [(one.answers / answers, one.probability - one.right) for one in bins]
    chances = [
        _gap_by_chance(found.probability, _independent(one))
        for found, (_, one) in zip(bins, filled, strict=True)
    ]
    return Calibration(
        bins,
        sum(weight * abs(gap) for weight, gap in gaps),
        sum(weight * chance for (weight, _), chance in zip(gaps, chances, strict=True)),
        sum(weight * gap for weight, gap in gaps),
        texts,
    )


def calibration_message(found: Calibration) -> str:
    """Return the error in a sentence, with what chance alone would give."""
    error = f"On average, probabilities differ from the share of correct answers by {_points(found.error)}"
    chance = f"chance alone gives about {_points(found.by_chance)} on {found.texts} texts"
    if found.error <= _CLEARLY * found.by_chance:
        return f"{error}; {chance}, so there is no sign that they are wrong."
    if abs(found.excess) < found.error / 2:
        return f"{error}; {chance}. Some are too high and some too low."
    return f"{error}; {chance}. They are too {'high' if found.excess > 0 else 'low'}."


def _bin(number: int, steps: int, found: ReliabilityBin) -> Bin:
    """Return a bin with an answer."""
    probability, right, size = (
        found.probability or 0.0,
        found.right or 0.0,
        max(1, round(_independent(found))),
    )
    low, high = wilson_interval(round(right * size), size)
    answers = found.answers or found.texts
    return Bin(
        number / steps, (number + 1) / steps, answers, probability, right, min(low, right), max(high, right)
    )


def _independent(found: ReliabilityBin) -> float:
    return found.independent or found.texts


def _gap_by_chance(probability: float, size: float) -> float:
    """Return the mean distance of a share of `size` independent draws from its probability, in the normal approximation."""
    spread = max(0.0, probability * (1 - probability))
    return min(math.sqrt(2 * spread / (math.pi * size)), 2 * spread)


def _points(share: float) -> str:
    points = f"{100 * share:.1f}"
    return f"{points} point{'' if points == '1.0' else 's'}"
