"""Forecasts: one doubling, as a range, silent on a flat curve, and scored once the labels are there."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from services.core import documents
from services.core.domain import CurvePoint, ExpectedAccuracy, Forecast, Manifest
from services.core.learning_curve import (
    MAX_POINTS,
    extend,
    forecast,
    outlook,
    outlook_message,
    score,
    with_curve,
)
from tests.support.manifests import build_manifest

SHARES = st.floats(0.01, 0.999)


def power_law(exponent: float, sizes: tuple[int, ...] = (100, 200, 400)) -> tuple[CurvePoint, ...]:
    """Return the curve of a project whose error is 40 % at 100 labels and falls with this exponent."""
    curve: tuple[CurvePoint, ...] = ()
    for texts in sizes:
        curve = extend(curve, CurvePoint(texts, 1 - 0.4 * (texts / 100) ** -exponent))
    return curve


@given(st.integers(2, 10**6), SHARES)
def test_forecast_is_a_better_accuracy_for_twice_the_texts(texts: int, accuracy: float) -> None:
    found = forecast((), CurvePoint(texts, accuracy))
    assert found
    assert found.texts == 2 * texts
    assert accuracy < found.low < found.high < 1


@given(SHARES, SHARES)
def test_forecast_gains_more_from_a_larger_error(accuracy: float, other: float) -> None:
    assume(other - accuracy > 1e-6)
    worse, better = (forecast((), CurvePoint(100, one)) for one in (accuracy, other))
    assert worse
    assert better
    assert worse.low - accuracy > better.low - other
    assert worse.high <= better.high


@given(st.floats(0.06, 0.69))
def test_forecasts_hold_on_a_power_law(exponent: float) -> None:
    assert score(power_law(exponent)) == (2, 2)


@given(st.floats(-0.2, 0.04))
def test_flat_curve_has_no_forecast(exponent: float) -> None:
    assert power_law(exponent)[0].forecast
    assert [point.forecast for point in power_law(exponent)[1:]] == [None, None]
    assert outlook(power_law(exponent)) is None


def test_perfect_accuracy_has_no_forecast() -> None:
    assert forecast((), CurvePoint(100, 1.0)) is None


def test_forecast_that_promised_too_much_is_counted() -> None:
    curve = extend(power_law(0.3, (100,)), CurvePoint(200, 0.605))
    assert score(curve) == (0, 1)
    lenient = (*curve[:1], replace(curve[1], margin=0.05))
    assert score(lenient) == (1, 1)


def test_forecast_is_not_scored_before_its_labels_are_there() -> None:
    assert score(power_law(0.3, (100, 150, 199))) == (0, 0)
    assert score(power_law(0.3, (100, 150, 210))) == (1, 1)


@given(st.lists(st.tuples(st.integers(1, 10**5), SHARES), max_size=80))
def test_curve_stays_short_and_ascending(points: list[tuple[int, float]]) -> None:
    curve: tuple[CurvePoint, ...] = ()
    for texts, accuracy in points:
        curve = extend(curve, CurvePoint(texts, accuracy))
        sizes = [point.texts for point in curve]
        assert sizes == sorted(set(sizes))
        assert len(curve) <= MAX_POINTS
        assert (curve[-1].texts, curve[-1].accuracy) == (texts, accuracy)
        right, scored = score(curve)
        assert 0 <= right <= scored < len(curve)


def test_points_a_few_labels_apart_are_thinned() -> None:
    assert len(power_law(0.3, tuple(range(10, 1010, 10)))) < 30


def version(texts: int, accuracy: float | None, **changes: object) -> Manifest:
    made = build_manifest(f"v-{texts}")
    expected = ExpectedAccuracy(accuracy, 0.03, 500)
    lineage = replace(made.lineage, texts=texts)
    return replace(made, expected=expected, lineage=lineage, **changes)  # type: ignore[arg-type]  # by name


def test_curve_goes_on_from_version_to_version() -> None:
    first = with_curve(version(100, 0.6), None)
    second = with_curve(version(200, 0.68), first)
    assert [(point.texts, point.accuracy, point.margin) for point in second.curve] == [
        (100, 0.6, 0.03),
        (200, 0.68, 0.03),
    ]
    assert documents.load(Manifest, documents.dump(second), "manifest.json").curve == second.curve
    found = outlook(second.curve)
    assert found
    assert (found.texts, found.right, found.scored) == (200, 1, 1)


@pytest.mark.parametrize("changes", [{"labels": ("A", "B", "C")}, {"from_name": "topic"}])
def test_curve_of_another_question_is_another_one(changes: dict[str, object]) -> None:
    first = replace(with_curve(version(100, 0.6), None), from_name="mood")
    second = with_curve(version(200, 0.68, **{"from_name": "mood", **changes}), first)
    assert [point.texts for point in second.curve] == [200]


@pytest.mark.parametrize("expected", [None, ExpectedAccuracy(None, reason="too few labels")])
def test_version_without_an_estimate_has_no_curve(expected: ExpectedAccuracy | None) -> None:
    first = with_curve(version(100, 0.6), None)
    assert with_curve(replace(version(200, 0.7), expected=expected), first).curve == ()


@pytest.mark.parametrize(
    ("right", "scored", "says"),
    [
        (0, 0, "Twice as many labels (600): about +1 to +8 points."),
        (1, 1, "Twice as many labels (600): about +1 to +8 points. Of 1 earlier forecast, 1 held."),
        (3, 4, "Twice as many labels (600): about +1 to +8 points. Of 4 earlier forecasts, 3 held."),
    ],
)
def test_message_names_points_and_score(right: int, scored: int, says: str) -> None:
    found = outlook(extend((), CurvePoint(300, 0.8)))
    assert found
    assert outlook_message(replace(found, right=right, scored=scored)) == says
    assert outlook_message(None) == ""


def test_message_of_one_point_is_singular() -> None:
    found = outlook(extend((), CurvePoint(300, 0.8)))
    assert found
    narrow = replace(found, forecast=Forecast(600, 0.808, 0.812))
    assert outlook_message(narrow) == "Twice as many labels (600): about +1 point."
