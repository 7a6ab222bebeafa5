"""The confusion matrix as data for the templates: the labels with the most errors. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.core.confusions import ConfusedPair
from services.core.domain import Report

MAX_LABELS: Final = 12
"""Labels shown in the confusion matrix."""

SHADES: Final = 6


@dataclass(frozen=True, slots=True)
class Cell:
    """How many texts of one label were predicted as another, or correctly."""

    texts: int
    shade: int
    """0 for none, up to SHADES - 1 for the whole row."""
    is_correct: bool


@dataclass(frozen=True, slots=True)
class MatrixRow:
    """An annotated label: cells in the order of the rows; `others` counts predictions of labels that are not shown."""

    number: int
    label: str
    cells: tuple[Cell, ...]
    others: int
    total: int


@dataclass(frozen=True, slots=True)
class ConfusionMatrix:
    """The labels with the most errors, at most MAX_LABELS."""

    rows: tuple[MatrixRow, ...]
    labels: int
    """Number of all labels, shown or not."""

    @property
    def is_cut(self) -> bool:
        """Whether some labels are not shown."""
        return len(self.rows) < self.labels


def build_confusion_matrix(report: Report, pairs: Sequence[ConfusedPair] = ()) -> ConfusionMatrix | None:
    """Return the confusion matrix of a report; None if no text was evaluated, or there are too many labels.

    `pairs`: the largest confusions. Of many labels those of the largest are shown, the largest first.
    """
    matrix = report.confusion
    size = len(report.labels)
    if len(matrix) != size or any(len(row) != size for row in matrix) or not any(map(sum, matrix)):
        return None
    shown = list(range(size)) if size <= MAX_LABELS else _most_confused(report, pairs)
    rows = tuple(_matrix_row(index, number, report, shown) for number, index in enumerate(shown, 1))
    return ConfusionMatrix(rows, size)


def _most_confused(report: Report, pairs: Sequence[ConfusedPair]) -> list[int]:
    """Return the labels of the largest confusions, then others, up to MAX_LABELS."""
    index = {label: number for number, label in enumerate(report.labels)}
    confused = [index[label] for pair in pairs for label in (pair.true, pair.predicted)]
    return list(dict.fromkeys([*confused, *range(len(report.labels))]))[:MAX_LABELS]


def _matrix_row(index: int, number: int, report: Report, shown: list[int]) -> MatrixRow:
    counts = report.confusion[index]
    total = sum(counts)
    cells = tuple(Cell(counts[other], _shade(counts[other], total), other == index) for other in shown)
    return MatrixRow(number, report.labels[index], cells, total - sum(cell.texts for cell in cells), total)


def _shade(count: int, total: int) -> int:
    return 0 if not count else 1 + min(SHADES - 2, int((SHADES - 1) * count / total))
