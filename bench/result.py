"""Options and result of a benchmark, and the exception that skips it."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


class Skip(Exception):
    """The benchmark cannot run here; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the command line."""

    data: Path
    """Folder with banking77/ and nlupp/."""
    label_studio: Path
    """Label Studio's executable."""
    rounds: int = 5
    seeds: int = 3
    full: bool = False
    """Extrapolate nothing, and run the slow comparisons as well."""
    dirty: bool = False
    """Run `learning` on bad input as well."""


@dataclass(frozen=True, slots=True)
class Result:
    """One benchmark's result: a table whose first row is its header, a sentence, and whether the goal is met."""

    name: str
    rows: tuple[tuple[str, ...], ...]
    sentence: str
    met: bool | None
    """None: there is no goal, or the benchmark was skipped."""
    goal: str = ""
    how: str = ""
    """The method of measurement."""
    seconds: float = 0.0
    """Duration of the benchmark."""
    machine: dict[str, str] = field(default_factory=dict)
    disturbed: str = ""
    """A note if other processes used the cores."""
    skipped: bool = False
    figures: dict[str, Any] = field(default_factory=dict)
    """What was measured, for plots."""
    more: dict[str, list[list[str]]] = field(default_factory=dict)
    """Further tables, each under the words that introduce it."""


def write_json(result: Result, path: Path) -> None:
    path.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Result:
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return Result(**{**found, "rows": tuple(tuple(row) for row in found["rows"])})


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that `share` of the values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median_and_range(values: Sequence[float], digits: int = 2) -> str:
    """`8.12 (7.90–9.31)`."""
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:,.{digits}f} ({low:,.{digits}f}–{high:,.{digits}f})"


def say(text: str) -> None:
    """Print progress, with the time."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", flush=True)
