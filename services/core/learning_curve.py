"""The learning curve of a project, and what twice as many labels would bring. Pure.

The error of a classifier falls about as a power of the number of labels: doubling them multiplies it by 2^-.05 to 2^-.7, and hardly
changes it once the curve is flat. Each version carries the curve up to itself, so that forecasts can be scored, and a flat curve
be seen, after the earlier versions were deleted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from services.core.domain import CurvePoint, Forecast, Manifest, Outlook

SLOWEST, FASTEST = 0.05, 0.7
"""Exponents that most learning curves lie between (decision 50); labels chosen by uncertainty reach the upper end. Below the lower
end a curve counts as flat."""
_SPACING: Final = 1.19
"""Factor between two points that are kept: four to a doubling."""
MAX_POINTS: Final = 40


def with_curve(manifest: Manifest, before: Manifest | None) -> Manifest:
    """Return the manifest with the curve of the version before it, if both answer the same question, and a point of its own."""
    expected = manifest.expected
    if expected is None or expected.accuracy is None:
        return replace(manifest, curve=())
    known = before.curve if before is not None and _is_comparable(manifest, before) else ()
    point = CurvePoint(manifest.lineage.texts, expected.accuracy, expected.margin)
    return replace(manifest, curve=extend(known, point))


def extend(curve: Sequence[CurvePoint], point: CurvePoint) -> tuple[CurvePoint, ...]:
    """Return the curve with a point for the newest version, with its forecast. Points with as many texts or more are replaced."""
    kept = [known for known in curve if known.texts < point.texts]
    if len(kept) > 1 and kept[-1].texts < _SPACING * kept[-2].texts:
        del kept[-1]
    return (*kept[1 - MAX_POINTS :], replace(point, forecast=forecast(kept, point)))


def forecast(earlier: Sequence[CurvePoint], point: CurvePoint) -> Forecast | None:
    """Return the accuracy to expect with twice as many texts; None if the curve has been flat over the last doubling."""
    error = 1 - point.accuracy
    if error <= 0 or is_flat(earlier, point):
        return None
    return Forecast(2 * point.texts, 1 - error * 2**-SLOWEST, 1 - error * 2**-FASTEST)


def is_flat(earlier: Sequence[CurvePoint], point: CurvePoint) -> bool:
    """Return whether the error has hardly fallen since about half as many texts; False if no version is known from there."""
    half = [known for known in earlier if 1 / 3 <= known.texts / point.texts <= 1 / math.sqrt(2)]
    if not half:
        return False
    before = min(half, key=lambda known: abs(math.log(2 * known.texts / point.texts)))
    fallen = math.log(max(1 - before.accuracy, 1e-9) / max(1 - point.accuracy, 1e-9))
    return fallen < SLOWEST * math.log(point.texts / before.texts)


def score(curve: Sequence[CurvePoint]) -> tuple[int, int]:
    """Return how many forecasts of the curve held, and of how many the number of labels was reached.

    What a version with that many labels reached is itself an estimate: within half of its interval, a forecast held.
    """
    right = scored = 0
    for number, made in enumerate(curve):
        wanted = made.forecast
        reached = next((one for one in curve[number + 1 :] if wanted and one.texts >= wanted.texts), None)
        if wanted and reached:
            scored += 1
            right += wanted.low - reached.margin / 2 <= reached.accuracy <= wanted.high + reached.margin / 2
    return right, scored


def outlook(curve: Sequence[CurvePoint]) -> Outlook | None:
    """Return the forecast of the newest version with the score of earlier ones; None without a forecast."""
    newest = curve[-1] if curve else None
    if newest is None or newest.forecast is None:
        return None
    right, scored = score(curve)
    return Outlook(newest.texts, newest.accuracy, newest.forecast, right, scored)


def outlook_message(found: Outlook | None) -> str:
    """Return `Twice as many labels (600): about +2 to +5 points.` and how earlier forecasts held; "" without a forecast."""
    if found is None:
        return ""
    low, high = (round(100 * (share - found.accuracy)) for share in (found.forecast.low, found.forecast.high))
    points = f"+{low} to +{high}" if low < high else f"+{high}" if high else "less than 1"
    plural = "point" if low == high and high <= 1 else "points"
    message = f"Twice as many labels ({found.forecast.texts}): about {points} {plural}."
    if not found.scored:
        return message
    forecasts = "1 earlier forecast" if found.scored == 1 else f"{found.scored} earlier forecasts"
    return f"{message} Of {forecasts}, {found.right} held."


def _is_comparable(manifest: Manifest, before: Manifest) -> bool:
    """Return whether a difference in accuracy comes from labels: the same labels, control and base model."""
    return (
        set(manifest.labels) == set(before.labels)
        and before.from_name in {"", manifest.from_name}
        and manifest.lineage.base_model == before.lineage.base_model
    )
