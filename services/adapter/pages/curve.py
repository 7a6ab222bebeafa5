"""The learning curve in SVG coordinates: two figures of each version by its number of labelled texts. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.adapter.pages.axes import (
    Scale,
    Tick,
    scale_of_counts,
    scale_of_shares,
    ticks_of_counts,
    ticks_of_shares,
)
from services.adapter.pages.formatting import has_enough_texts
from services.core.accuracy import cross_validated, expected_in_words
from services.core.domain import Manifest

WIDTH: Final = 640

HEIGHT: Final = 260

LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 48

_MAX_VERSIONS: Final = 60
"""The newest versions drawn: more would be indistinguishable."""

_APART: Final = 3
"""Half the distance of a version's two figures, so that their intervals do not hide each other."""


@dataclass(frozen=True, slots=True)
class Point:
    """A figure of a version: its value at `y`, its interval from `low` to `high`."""

    x: float
    y: float
    low: float
    high: float
    version: str
    title: str
    kind: str
    """served, promoted or held."""


@dataclass(frozen=True, slots=True)
class Series:
    """One figure of all versions that have it."""

    points: tuple[Point, ...] = ()

    @property
    def line(self) -> str:
        """Polyline through the versions that passed the gate."""
        return " ".join(f"{point.x},{point.y}" for point in self.points if point.kind != "held")


@dataclass(frozen=True, slots=True)
class CurveRow:
    """A version in the table that says the same."""

    version: str
    texts: int
    expected: str
    evaluated: str
    kind: str


@dataclass(frozen=True, slots=True)
class LearningCurve:
    """What the template draws."""

    expected: Series
    """Accuracy to expect; empty for versions of earlier releases."""
    evaluated: Series
    """Cross-validated, or on a holdout."""
    ys: tuple[Tick, ...]
    xs: tuple[Tick, ...]
    logarithmic: bool
    description: str
    rows: tuple[CurveRow, ...]
    """The same in numbers, newest first."""
    omitted: int
    """Versions without either figure."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM
    top: int = TOP


@dataclass(frozen=True, slots=True)
class _Figure:
    """A share with its interval."""

    share: float
    low: float
    high: float


def build_learning_curve(manifests: Sequence[Manifest], served: str | None) -> LearningCurve | None:
    """Return the curve of versions, given oldest first; None if no version has a figure."""
    shown = [one for one in manifests if _expected(one) or _evaluated(one)][-_MAX_VERSIONS:]
    if not shown:
        return None
    figures = [figure for one in shown for figure in (_expected(one), _evaluated(one)) if figure]
    x = scale_of_counts([one.lineage.texts for one in shown], LEFT + 14, WIDTH - RIGHT - 14)
    y = scale_of_shares(
        min(one.low for one in figures), max(one.high for one in figures), HEIGHT - BOTTOM, TOP
    )
    both = any(map(_expected, shown)) and any(map(_evaluated, shown))
    apart = _APART if both else 0
    return LearningCurve(
        expected=_series(shown, served, _expected, x, y, -apart),
        evaluated=_series(shown, served, _evaluated, x, y, apart),
        ys=ticks_of_shares(y),
        xs=ticks_of_counts(x),
        logarithmic=x.logarithmic,
        description=_description(shown),
        rows=tuple(_row(one, served) for one in reversed(shown)),
        omitted=sum(not (_expected(one) or _evaluated(one)) for one in manifests if one.estimate.source),
    )


def _expected(manifest: Manifest) -> _Figure | None:
    found = manifest.expected
    if found is None or found.accuracy is None:
        return None
    share, margin = found.accuracy, found.margin
    return _Figure(share, max(0.0, share - margin), min(1.0, share + margin))


def _evaluated(manifest: Manifest) -> _Figure | None:
    found = manifest.estimate
    if not has_enough_texts(found):
        return None
    if (f1 := found.micro_f1) is not None:  # of several labels a text; the interval is that of whole answers
        return _Figure(f1, f1, f1)
    return _Figure(found.right / found.judged, found.low, found.high)


def _series(
    shown: Sequence[Manifest],
    served: str | None,
    figure_of: Callable[[Manifest], _Figure | None],
    x: Scale,
    y: Scale,
    apart: float,
) -> Series:
    return Series(
        tuple(
            Point(
                x=x.at(one.lineage.texts) + apart,
                y=y.at(figure.share),
                low=y.at(figure.low),
                high=y.at(figure.high),
                version=one.version,
                title=_point_title(one),
                kind=_point_kind(one, served),
            )
            for one in shown
            if (figure := figure_of(one))
        )
    )


def _point_kind(manifest: Manifest, served: str | None) -> str:
    if manifest.version == served:
        return "served"
    return "promoted" if manifest.gate.promote else "held"


def _row(manifest: Manifest, served: str | None) -> CurveRow:
    return CurveRow(
        manifest.version,
        manifest.lineage.texts,
        _expected_text(manifest),
        cross_validated(manifest.estimate) if _evaluated(manifest) else "–",
        _point_kind(manifest, served),
    )


def _expected_text(manifest: Manifest) -> str:
    found = manifest.expected
    if found is None or found.accuracy is None:
        return "–"
    return expected_in_words(found)


def _point_title(manifest: Manifest) -> str:
    """Return the version with its figures: `shop-8: expected about 80 % (±5), evaluated 71 % (66–76), 300 labelled texts`."""
    parts = [
        f"expected {_expected_text(manifest)}" if _expected(manifest) else "",
        f"evaluated {cross_validated(manifest.estimate)}" if _evaluated(manifest) else "",
        f"{manifest.lineage.texts} labelled texts",
    ]
    return f"{manifest.version}: {', '.join(filter(None, parts))}"


def _description(shown: Sequence[Manifest]) -> str:
    if len(shown) == 1:
        return f"One version. {_point_title(shown[0])}."
    return f"{len(shown)} versions. First {_point_title(shown[0])}; last {_point_title(shown[-1])}."
