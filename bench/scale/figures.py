"""Figures of one size: distributions, numbers, counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.result import percentile, say

NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class Spread:
    """A distribution in seconds; what did not happen in time is infinite."""

    count: int
    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if not values:
            return cls(0, NEVER, NEVER, NEVER)
        return cls(len(values), percentile(values, 0.5), percentile(values, 0.99), max(values))

    def __str__(self) -> str:
        return f"p50 {self.p50:.3f} p99 {self.p99:.3f} max {self.most:.3f} s of {self.count}"


@dataclass
class Found:
    """All figures of one size, by name."""

    figures: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, value: Any) -> None:
        """Keep and print a figure: a number, a Spread, or counts by name."""
        say(f"scale: {name}: {value}")
        self.figures[name] = asdict(value) if isinstance(value, Spread) else value
