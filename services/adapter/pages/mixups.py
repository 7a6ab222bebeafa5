"""The confusion matrix, cut to what a person can take in: the labels with the most mistakes. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.core.domain import Report

MOST: Final = 12
"""Labels that are shown."""
SHADES: Final = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """How many texts of a label were answered by another, or by itself."""

    texts: int
    shade: int
    """0 for none, up to SHADES - 1: its share of the row."""
    is_right: bool


@dataclass(frozen=True, slots=True)
class Row:
    """A true label: the cells stand in the order of the rows, and `others` for labels that are not shown."""

    number: int
    label: str
    cells: tuple[Cell, ...]
    others: int
    total: int


@dataclass(frozen=True, slots=True)
class Mixups:
    """The matrix."""

    rows: tuple[Row, ...]
    labels: int
    """All, shown or not."""

    @property
    def is_cut(self) -> bool:
        """Whether labels are left out."""
        return len(self.rows) < self.labels


def arrange(report: Report) -> Mixups | None:
    """The matrix of a report; None where no text was judged."""
    matrix = report.confusion
    size = len(report.labels)
    if len(matrix) != size or any(len(row) != size for row in matrix) or not any(map(sum, matrix)):
        return None
    shown = sorted(_most_mistaken(matrix, size))
    rows = tuple(_row(place, number, report, shown) for number, place in enumerate(shown, 1))
    return Mixups(rows, size)


def _most_mistaken(matrix: tuple[tuple[int, ...], ...], size: int) -> list[int]:
    """Up to MOST labels, those that are mixed up most."""

    def mistakes(place: int) -> int:
        missed = sum(matrix[place]) - matrix[place][place]
        return missed + sum(row[place] for row in matrix) - matrix[place][place]

    return sorted(range(size), key=lambda place: -mistakes(place))[:MOST]


def _row(place: int, number: int, report: Report, shown: list[int]) -> Row:
    counts = report.confusion[place]
    total = sum(counts)
    cells = tuple(Cell(counts[other], _shade(counts[other], total), other == place) for other in shown)
    return Row(number, report.labels[place], cells, total - sum(cell.texts for cell in cells), total)


def _shade(count: int, total: int) -> int:
    return 0 if not count else 1 + min(SHADES - 2, int((SHADES - 1) * count / total))
