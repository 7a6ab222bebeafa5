"""Axes: round ticks, in order, few enough for a phone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.adapter.pages.axes import (
    Scale,
    scale_of_counts,
    scale_of_shares,
    ticks_of_counts,
    ticks_of_shares,
)

COUNTS = st.lists(st.integers(0, 10**7), min_size=1, max_size=6)


def texts_of(counts: list[int]) -> list[str]:
    return [tick.text for tick in ticks_of_counts(scale_of_counts(counts, 0, 100))]


@given(COUNTS)
def test_ticks_of_counts_are_few_and_in_order(counts: list[int]) -> None:
    scale = scale_of_counts(counts, 0, 100)
    ticks = ticks_of_counts(scale)
    assert 1 <= len(ticks) <= 5
    values = [int(tick.text) for tick in ticks]
    assert values == sorted(set(values))
    assert all(min(counts) <= value <= max(counts) for value in values)
    places = [tick.at for tick in ticks]
    assert places == sorted(places)


def test_ticks_of_counts_are_round() -> None:
    assert texts_of([40, 236]) == ["50", "100", "150", "200"]
    assert texts_of([0, 460]) == ["2", "10", "50", "200"]
    assert texts_of([7]) == ["7"]
    assert texts_of([20, 5000]) == ["50", "200", "1000", "5000"]


def test_counts_that_differ_much_are_logarithmic() -> None:
    scale = scale_of_counts([10, 1000], 0, 100)
    assert scale.logarithmic
    assert scale.at(100) == 50
    assert not scale_of_counts([10, 100], 0, 100).logarithmic


@given(st.floats(0, 1), st.floats(0, 1))
def test_shares_lie_within_tenths(one: float, other: float) -> None:
    scale = scale_of_shares(min(one, other), max(one, other), 200, 0)
    assert 0 <= scale.low < scale.high <= 1
    assert 0 <= scale.at(max(one, other)) <= scale.at(min(one, other)) <= 200
    assert 2 <= len(ticks_of_shares(scale)) <= 6


def test_a_value_beyond_the_axis_lies_at_its_end() -> None:
    assert Scale(0, 1, 0, 100).at(7) == 100
