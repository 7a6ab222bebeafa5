"""Intervals contain their figure, and cover the truth about as often as they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.intervals import (
    Interval,
    Z,
    median_with_error,
    risk_ratio,
    share_interval,
    wilson_interval,
)


@given(st.integers(0, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_contains_the_share(pair: tuple[int, int]) -> None:
    right, judged = pair
    low, high = wilson_interval(right, judged)
    assert 0.0 <= low <= high <= 1.0
    if judged:
        assert low <= right / judged <= high


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilson_interval_is_symmetric(right: int, wrong: int) -> None:
    low, high = wilson_interval(right, right + wrong)
    assert wilson_interval(wrong, right + wrong) == pytest.approx((1 - high, 1 - low))


def test_wilson_interval_of_known_values() -> None:
    assert wilson_interval(47, 100) == pytest.approx((0.3751, 0.5671), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


COUNTS = st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(COUNTS, COUNTS)
def test_risk_ratio_lies_in_its_interval(one: tuple[int, int], other: tuple[int, int]) -> None:
    found = risk_ratio(*one, *other)
    assert 0 < found.low <= found.value <= found.high
    swapped = risk_ratio(*other, *one)
    assert (swapped.value, swapped.low, swapped.high) == pytest.approx(
        (1 / found.value, 1 / found.high, 1 / found.low)
    )


def test_risk_ratio_of_known_values() -> None:
    found = risk_ratio(100, 1000, 200, 1000)
    assert (found.value, found.low, found.high) == pytest.approx((0.50, 0.40, 0.62), abs=0.01)


@given(st.lists(st.floats(0.1, 3600), min_size=2, max_size=60))
def test_median_and_its_error_do_not_depend_on_order(values: list[float]) -> None:
    median, error = median_with_error(values)
    assert median == pytest.approx(float(np.median(values)))
    assert 0 <= error <= max(values) - min(values)
    assert median_with_error(values[::-1]) == (median, error)


@given(st.lists(st.floats(0.1, 3600), min_size=2, max_size=60), st.floats(0.01, 100))
def test_median_scales_with_the_unit(values: list[float], factor: float) -> None:
    scaled = median_with_error([factor * value for value in values])
    assert scaled == pytest.approx([factor * figure for figure in median_with_error(values)])


@pytest.mark.parametrize("size", [10, 40, 200])
def test_interval_of_a_median_covers_the_truth(size: int) -> None:
    """Of log-normal times, whose median is e²."""
    random = np.random.default_rng(size)
    tries, covered = 400, 0
    for _ in range(tries):
        median, error = median_with_error(np.exp(random.normal(2, 0.8, size)).tolist())
        covered += abs(median - np.exp(2)) <= Z * error
    assert 0.91 < covered / tries < 0.98


def test_interval_of_a_share_is_scaled_whole() -> None:
    found = share_interval(47, 100)
    assert (found.low, found.high) == wilson_interval(47, 100)
    assert found.scaled(2.0) == Interval(2 * found.value, 2 * found.low, 2 * found.high)
