"""Axes of charts: from values to SVG coordinates, and ticks that are readable on a phone. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count
from typing import Final

_LOGARITHMIC: Final = 20
"""Ratio of the largest to the smallest count from which an axis of counts is logarithmic."""
_MOST_TICKS: Final = 5


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low` at the coordinate `start` to `high` at `end`; a single value lies in the middle."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        """Return the coordinate of a value, within the axis."""
        low, high, shown = (self._place(one) for one in (self.low, self.high, value))
        share = 0.5 if high == low else min(1.0, max(0.0, (shown - low) / (high - low)))
        return round(self.start + share * (self.end - self.start), 1)

    def _place(self, value: float) -> float:
        return math.log(max(1.0, value)) if self.logarithmic else value


def scale_of_counts(counts: list[int], start: float, end: float) -> Scale:
    """Return the axis of counts, logarithmic if they differ much; `counts` is not empty."""
    low, high = min(counts), max(counts)
    return Scale(low, high, start, end, high > _LOGARITHMIC * max(1, low))


def ticks_of_counts(scale: Scale) -> tuple[Tick, ...]:
    """Return up to five ticks at round counts within the axis."""
    low, high = math.ceil(scale.low), math.floor(scale.high)
    steps = _powers(low, high) if scale.logarithmic else _multiples(low, high)
    return tuple(Tick(scale.at(count), str(count)) for count in steps or sorted({low, high}))


def _multiples(low: int, high: int) -> list[int]:
    """Return the multiples of the smallest round step of which there are few enough."""
    steps = (factor * 10**exponent for exponent in count() for factor in (1, 2, 5))
    step = next(step for step in steps if high // step - (low - 1) // step <= _MOST_TICKS)
    return list(range(-(-low // step) * step, high + 1, step))


def _powers(low: int, high: int) -> list[int]:
    found = [
        factor * 10**exponent
        for exponent in range(len(str(high)) + 1)
        for factor in (1, 2, 5)
        if low <= factor * 10**exponent <= high
    ]
    return found[::-1][:: -(-len(found) // _MOST_TICKS) or 1][::-1] if found else []


def scale_of_shares(lowest: float, highest: float, start: float, end: float) -> Scale:
    """Return the axis of shares: tenths around the lowest and the highest, at least one tenth."""
    low = max(0.0, math.floor(10 * lowest) / 10)
    high = min(1.0, max(math.ceil(10 * highest) / 10, low + 0.1))
    return Scale(min(low, 0.9), high, start, end)


def ticks_of_shares(scale: Scale) -> tuple[Tick, ...]:
    """Return ticks at tenths, or at every second one if there are many."""
    tenths = range(round(10 * scale.low), round(10 * scale.high) + 1)
    step = 2 if len(tenths) > 6 else 1
    return tuple(Tick(scale.at(tenth / 10), f"{10 * tenth} %") for tenth in reversed(tenths[::-1][::step]))
