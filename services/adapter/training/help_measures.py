"""From records of annotations to what suggestions do for annotators. Pure.

Which texts have no suggestion is decided by their keys, so annotations with and without one differ in nothing else, on average: the
difference in agreement is the share of suggestions that were accepted though wrong, and the difference in seconds what they save.
Seconds are compared within each annotator, by medians.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.adapter.state.help import MIN_BLIND, HelpMeasures
from services.adapter.training.help_records import RIGHT, UNKNOWN, WINDOW_SECONDS, Records
from services.core.intervals import Interval, Z, median_with_error, risk_ratio, share_interval

_MIN_WRONG: Final = 5
"""Blind annotations with a wrong answer of the model below which nothing is said of accepted wrong suggestions."""
_MIN_OF_EACH: Final = 5
"""Timed annotations of each kind that an annotator must have to be compared."""
_NEARLY_ALL: Final = 0.9
"""Share of blind answers with a probability from which on their mean is shown beside the accuracy."""
_WEEK_SECONDS: Final = 7 * 86_400.0


def measure(records: Records, share: float, now: float) -> HelpMeasures:
    """Return the measures at `now`. Annotations from before the first blind one are left out: the model was another one."""
    rows = records[records["made_at"] >= now - WINDOW_SECONDS]
    blind = rows["blind"] > 0
    if not blind.any():
        return HelpMeasures(share)
    rows = rows[rows["made_at"] >= rows["made_at"][blind].min()]
    return _with_seconds(_of_answers(share, rows), rows, now)


def _of_answers(share: float, rows: Records) -> HelpMeasures:
    known = rows[rows["answer"] != UNKNOWN]
    blind, shown = known[known["blind"] > 0], known[known["blind"] == 0]
    right, agreed = int((blind["answer"] == RIGHT).sum()), int((shown["answer"] == RIGHT).sum())
    found = HelpMeasures(share, len(blind), right, len(shown), agreed)
    if found.blind < MIN_BLIND:
        return found
    return replace(
        found,
        accuracy=share_interval(right, found.blind),
        expected=_expected(blind["p1"]),
        accepted_wrong=_accepted_wrong(found),
    )


def _expected(probabilities: NDArray[np.float32]) -> float | None:
    """Return the mean probability of the answers; None unless nearly all have one: those of a version from label names do not."""
    known = probabilities[probabilities > 0]
    return float(known.mean()) if len(known) >= max(MIN_BLIND, _NEARLY_ALL * len(probabilities)) else None


def _accepted_wrong(found: HelpMeasures) -> Interval | None:
    """Return by which share of itself showing suggestions lowers the share of annotations that disagree with the model."""
    wrong, disagreed = found.blind - found.blind_right, found.shown - found.shown_agreed
    if wrong < _MIN_WRONG or found.shown < MIN_BLIND:
        return None
    ratio = risk_ratio(disagreed, found.shown, wrong, found.blind)
    low, value, high = (min(1.0, max(0.0, 1 - one)) for one in (ratio.high, ratio.value, ratio.low))
    return Interval(value, low, high)


class _Annotator(NamedTuple):
    """The annotations of one annotator whose seconds are known."""

    blind: NDArray[np.float32]
    shown: NDArray[np.float32]
    shown_this_week: int


def _with_seconds(found: HelpMeasures, rows: Records, now: float) -> HelpMeasures:
    timed = rows[np.isfinite(rows["seconds"])]
    everyone = [_annotator(timed[timed["annotator"] == one], now) for one in np.unique(timed["annotator"])]
    people = [one for one in everyone if min(len(one.blind), len(one.shown)) >= _MIN_OF_EACH]
    found = replace(found, timed_blind=sum(len(one.blind) for one in people), annotators=len(people))
    if found.timed_blind < MIN_BLIND:
        return found
    return replace(
        found,
        seconds_blind=float(np.median(np.concatenate([one.blind for one in people]))),
        seconds_shown=float(np.median(np.concatenate([one.shown for one in people]))),
        saved_seconds=saved_seconds([(one.blind, one.shown) for one in people]),
        shown_this_week=sum(one.shown_this_week for one in people),
    )


def _annotator(rows: Records, now: float) -> _Annotator:
    blind = rows["blind"] > 0
    is_recent = rows["made_at"] >= now - _WEEK_SECONDS
    return _Annotator(rows["seconds"][blind], rows["seconds"][~blind], int((is_recent & ~blind).sum()))


def saved_seconds(people: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> Interval:
    """Return the seconds that a suggestion saves, from each annotator's seconds without and with one.

    The difference of each annotator's medians counts by the number of suggestions that the annotator had.
    """
    total = sum(len(shown) for _, shown in people)
    saved = variance = 0.0
    for blind, shown in people:
        (without, without_error), (with_one, with_error) = median_with_error(blind), median_with_error(shown)
        weight = len(shown) / total
        saved += weight * (without - with_one)
        variance += weight**2 * (without_error**2 + with_error**2)
    half = Z * math.sqrt(variance)
    return Interval(saved, saved - half, saved + half)
