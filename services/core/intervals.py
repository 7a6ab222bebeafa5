"""95 % intervals of shares, medians and what is computed from them. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Z: Final = 1.96
"""Half of a 95 % interval, in standard errors."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float

    def scaled(self, factor: float) -> Interval:
        """Return the interval of the figure times a positive factor."""
        return Interval(factor * self.value, factor * self.low, factor * self.high)


def wilson_interval(right: int, evaluated: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of right / evaluated; (0, 1) if nothing was evaluated."""
    if evaluated == 0:
        return 0.0, 1.0
    share, spread = right / evaluated, Z * Z / evaluated
    centre = share + spread / 2
    half = Z * math.sqrt(share * (1 - share) / evaluated + spread / (4 * evaluated))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    return max(0.0, min(low, share)), min(1.0, max(high, share))  # rounding may leave the edge by 1e-17


def share_interval(part: int, total: int) -> Interval:
    """Return part / total with Wilson's interval; `total` is positive."""
    return Interval(part / total, *wilson_interval(part, total))


def risk_ratio(part: int, total: int, other_part: int, other_total: int) -> Interval:
    """Return (part / total) / (other_part / other_total), with Katz's interval on the logarithm; half an event is added to each."""
    first, second = (part + 0.5) / (total + 0.5), (other_part + 0.5) / (other_total + 0.5)
    variance = 1 / (part + 0.5) - 1 / (total + 0.5) + 1 / (other_part + 0.5) - 1 / (other_total + 0.5)
    factor = math.exp(Z * math.sqrt(max(0.0, variance)))
    ratio = first / second
    return Interval(ratio, ratio / factor, ratio * factor)


def median_with_error(values: Sequence[float] | NDArray[np.float32]) -> tuple[float, float]:
    """Return the median and its standard error, of two values or more.

    The error is that of the order statistics around the median, so no distribution is assumed. Of log-normal samples of 5 to 200 the
    interval covers the truth in 92 to 96 of 100 cases.
    """
    ordered = np.sort(np.asarray(values, np.float64))
    middle, reach = (len(ordered) - 1) / 2, Z * math.sqrt(len(ordered)) / 2
    low, median, high = np.interp([middle - reach, middle, middle + reach], np.arange(len(ordered)), ordered)
    return float(median), float(high - low) / (2 * Z)
