"""The learning curve, in SVG coordinates, and the confusion matrix, as data for the templates. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.adapter.pages.formatting import accuracy, has_enough_texts
from services.core.domain import Manifest, Report

WIDTH: Final = 640

HEIGHT: Final = 260

LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 48

_MAX_VERSIONS: Final = 60
"""The newest versions drawn: more would be indistinguishable."""


@dataclass(frozen=True, slots=True)
class Point:
    """A version: its accuracy at `y`, its interval from `low` to `high`."""

    x: float
    y: float
    low: float
    high: float
    version: str
    title: str
    kind: str
    """served, promoted or held."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A tick of an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """What the template draws."""

    points: tuple[Point, ...]
    line: str
    """Polyline through the versions that passed the gate."""
    ys: tuple[Tick, ...]
    xs: tuple[Tick, ...]
    description: str
    omitted: int
    """Versions with too few evaluated texts."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM
    top: int = TOP


def build_learning_curve(manifests: Sequence[Manifest], served: str | None) -> LearningCurve | None:
    """Return the curve of versions, given oldest first; None if no version was evaluated on enough texts."""
    shown = [manifest for manifest in manifests if has_enough_texts(manifest.estimate)][-_MAX_VERSIONS:]
    if not shown:
        return None
    texts = [manifest.lineage.texts for manifest in shown]
    lowest, highest = _range(shown)
    least, most = min(texts), max(texts)

    def x_of(count: float) -> float:
        share = 0.5 if most == least else (count - least) / (most - least)
        return round(LEFT + 14 + share * (WIDTH - LEFT - RIGHT - 28), 1)

    def y_of(share: float) -> float:
        return round(HEIGHT - BOTTOM - (share - lowest) / (highest - lowest) * (HEIGHT - TOP - BOTTOM), 1)

    points = tuple(
        Point(
            x=x_of(manifest.lineage.texts),
            y=y_of(manifest.estimate.right / manifest.estimate.judged),
            low=y_of(manifest.estimate.low),
            high=y_of(manifest.estimate.high),
            version=manifest.version,
            title=_point_title(manifest),
            kind=_point_kind(manifest, served),
        )
        for manifest in shown
    )
    return LearningCurve(
        points=points,
        line=" ".join(f"{point.x},{point.y}" for point in points if point.kind != "held"),
        ys=tuple(Tick(y_of(share), f"{100 * share:.0f} %") for share in _tick_shares(lowest, highest)),
        xs=tuple(Tick(x_of(count), str(count)) for count in sorted({least, (least + most) // 2, most})),
        description=_description(shown),
        omitted=sum(not has_enough_texts(manifest.estimate) for manifest in manifests),
    )


def _range(shown: Sequence[Manifest]) -> tuple[float, float]:
    """Return the range of the y axis: tenths around all intervals."""
    lowest = math.floor(10 * min(manifest.estimate.low for manifest in shown)) / 10
    highest = math.ceil(10 * max(manifest.estimate.high for manifest in shown)) / 10
    return max(0.0, lowest), min(1.0, max(highest, lowest + 0.1))


def _tick_shares(lowest: float, highest: float) -> list[float]:
    tenths = range(round(10 * lowest), round(10 * highest) + 1)
    step = 2 if len(tenths) > 6 else 1
    return [tenth / 10 for tenth in reversed(tenths[::-1][::step])]


def _point_kind(manifest: Manifest, served: str | None) -> str:
    if manifest.version == served:
        return "served"
    return "promoted" if manifest.gate.promote else "held"


def _point_title(manifest: Manifest) -> str:
    return (
        f"{manifest.version}: accuracy {accuracy(manifest.estimate)}, {manifest.lineage.texts} training texts"
    )


def _description(shown: Sequence[Manifest]) -> str:
    if len(shown) == 1:
        return f"One evaluated version. {_point_title(shown[0])}."
    return f"{len(shown)} evaluated versions. First {_point_title(shown[0])}; last {_point_title(shown[-1])}."


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


def build_confusion_matrix(report: Report) -> ConfusionMatrix | None:
    """Return the confusion matrix of a report; None if no text was evaluated."""
    matrix = report.confusion
    size = len(report.labels)
    if len(matrix) != size or any(len(row) != size for row in matrix) or not any(map(sum, matrix)):
        return None
    shown = sorted(_most_confused(matrix, size))
    rows = tuple(_matrix_row(index, number, report, shown) for number, index in enumerate(shown, 1))
    return ConfusionMatrix(rows, size)


def _most_confused(matrix: tuple[tuple[int, ...], ...], size: int) -> list[int]:
    """Return the labels with the most errors, up to MAX_LABELS."""

    def errors(index: int) -> int:
        missed = sum(matrix[index]) - matrix[index][index]
        return missed + sum(row[index] for row in matrix) - matrix[index][index]

    return sorted(range(size), key=lambda index: -errors(index))[:MAX_LABELS]


def _matrix_row(index: int, number: int, report: Report, shown: list[int]) -> MatrixRow:
    counts = report.confusion[index]
    total = sum(counts)
    cells = tuple(Cell(counts[other], _shade(counts[other], total), other == index) for other in shown)
    return MatrixRow(number, report.labels[index], cells, total - sum(cell.texts for cell in cells), total)


def _shade(count: int, total: int) -> int:
    return 0 if not count else 1 + min(SHADES - 2, int((SHADES - 1) * count / total))
