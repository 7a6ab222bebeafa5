"""The learning curve as a picture: where its points, whiskers and lines stand, in the units of the SVG. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.adapter.pages.words import enough, percent
from services.core.domain import Manifest

WIDTH: Final = 640
HEIGHT: Final = 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 14, 48
_MOST: Final = 60
"""Versions that are drawn, the newest ones: more cannot be told apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """A version: its estimate at `y`, its interval from `low` to `high`."""

    x: float
    y: float
    low: float
    high: float
    version: str
    said: str
    kind: str
    """served, promoted or held."""


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Curve:
    """All that the template needs."""

    points: tuple[Point, ...]
    line: str
    """Through the versions that the gate let through, as points of a polyline."""
    ys: tuple[Tick, ...]
    xs: tuple[Tick, ...]
    description: str
    left_out: int
    """Versions with too few judged texts to say anything."""
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM
    top: int = TOP


def draw(manifests: Sequence[Manifest], served: str | None) -> Curve | None:
    """The curve of a project's versions, oldest first; None where no version was judged on enough texts."""
    shown = [manifest for manifest in manifests if enough(manifest.estimate)][-_MOST:]
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
            said=_said(manifest),
            kind=_kind(manifest, served),
        )
        for manifest in shown
    )
    return Curve(
        points=points,
        line=" ".join(f"{point.x},{point.y}" for point in points if point.kind != "held"),
        ys=tuple(Tick(y_of(share), f"{100 * share:.0f} %") for share in _shares(lowest, highest)),
        xs=tuple(Tick(x_of(count), str(count)) for count in sorted({least, (least + most) // 2, most})),
        description=_description(shown),
        left_out=sum(not enough(manifest.estimate) for manifest in manifests),
    )


def _range(shown: Sequence[Manifest]) -> tuple[float, float]:
    """The least and greatest share drawn: tenths around all intervals."""
    lowest = math.floor(10 * min(manifest.estimate.low for manifest in shown)) / 10
    highest = math.ceil(10 * max(manifest.estimate.high for manifest in shown)) / 10
    return max(0.0, lowest), min(1.0, max(highest, lowest + 0.1))


def _shares(lowest: float, highest: float) -> list[float]:
    tenths = range(round(10 * lowest), round(10 * highest) + 1)
    step = 2 if len(tenths) > 6 else 1
    return [tenth / 10 for tenth in reversed(tenths[::-1][::step])]


def _kind(manifest: Manifest, served: str | None) -> str:
    if manifest.version == served:
        return "served"
    return "promoted" if manifest.gate.promote else "held"


def _said(manifest: Manifest) -> str:
    return f"{manifest.version}: {percent(manifest.estimate)} right, from {manifest.lineage.texts} texts"


def _description(shown: Sequence[Manifest]) -> str:
    if len(shown) == 1:
        return f"One version was judged. {_said(shown[0])}."
    return f"{len(shown)} versions were judged. First {_said(shown[0])}; last {_said(shown[-1])}."
