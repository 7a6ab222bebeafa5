"""The reliability diagram in SVG coordinates: share of correct answers by probability, above a histogram of answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.adapter.pages.axes import Scale, Tick
from services.core.calibration import Calibration, calibration_message, calibration_of
from services.core.domain import Report
from services.core.labels.uncounted import plural

WIDTH: Final = 400

LEFT, RIGHT = 56, 14
TOP, BOTTOM = 14, 300
"""Of the diagram."""
BARS_TOP, BARS_BOTTOM, HEIGHT = 320, 380, 424
"""Of the histogram below it."""
_TICKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
_GAP: Final = 2.0
_LEAST_HEIGHT: Final = 1.5


@dataclass(frozen=True, slots=True)
class BinShape:
    """One bin: a point with its interval, and a bar whose height is the number of answers."""

    x: float
    y: float
    low: float
    high: float
    left: float
    width: float
    top: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class ReliabilityRow:
    """One bin in the table that says the same."""

    range: str
    answers: int
    probability: float
    right: float
    interval: str


@dataclass(frozen=True, slots=True)
class ReliabilityDiagram:
    """What the template draws."""

    shapes: tuple[BinShape, ...]
    rows: tuple[ReliabilityRow, ...]
    xs: tuple[Tick, ...]
    ys: tuple[Tick, ...]
    message: str
    error: float
    description: str
    most: int
    """Answers in the highest bar."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = BOTTOM
    bars_top: int = BARS_TOP
    bars_bottom: int = BARS_BOTTOM


def build_reliability_diagram(report: Report) -> ReliabilityDiagram | None:
    """Return the diagram of a report; None if too few texts were evaluated."""
    found = calibration_of(report)
    if found is None:
        return None
    x, y = Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(0, 1, BOTTOM, TOP)
    most = max(one.answers for one in found.bins)
    rows = _rows(found)
    return ReliabilityDiagram(
        shapes=_shapes(found, rows, x, y, most),
        rows=rows,
        xs=tuple(Tick(x.at(share), f"{100 * share:.0f} %") for share in _TICKS),
        ys=tuple(Tick(y.at(share), f"{100 * share:.0f} %") for share in _TICKS),
        message=calibration_message(found),
        error=found.error,
        description=_description(found, rows),
        most=most,
    )


def _shapes(
    found: Calibration, rows: tuple[ReliabilityRow, ...], x: Scale, y: Scale, most: int
) -> tuple[BinShape, ...]:
    """Return the shapes; bars of very few answers stay visible."""
    shapes = []
    for one, row in zip(found.bins, rows, strict=True):
        height = round(max(_LEAST_HEIGHT, one.answers / most * (BARS_BOTTOM - BARS_TOP)), 1)
        left = x.at(one.start) + _GAP / 2
        shapes.append(
            BinShape(
                x=x.at(one.probability),
                y=y.at(one.right),
                low=y.at(one.low),
                high=y.at(one.high),
                left=left,
                width=round(x.at(one.end) - _GAP / 2 - left, 1),
                top=round(BARS_BOTTOM - height, 1),
                height=height,
                title=_sentence(row),
            )
        )
    return tuple(shapes)


def _rows(found: Calibration) -> tuple[ReliabilityRow, ...]:
    return tuple(
        ReliabilityRow(
            f"{100 * one.start:.0f}–{100 * one.end:.0f} %",
            one.answers,
            one.probability,
            one.right,
            f"{100 * one.low:.0f}–{100 * one.high:.0f}",
        )
        for one in found.bins
    )


def _sentence(row: ReliabilityRow) -> str:
    answers = plural(row.answers, "answer")
    return f"{answers} at {row.range}: mean {100 * row.probability:.0f} %, {100 * row.right:.0f} % correct ({row.interval})"


def _description(found: Calibration, rows: tuple[ReliabilityRow, ...]) -> str:
    return f"{plural(found.answers, 'answer')} in {plural(len(rows), 'bin')}. {calibration_message(found)} Highest bin: {_sentence(rows[-1])}."
