"""What is said of suggestions equals what annotators do, and nothing is said from too little."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.adapter.state.help import MIN_BLIND, HelpMeasures
from services.adapter.training.help_measures import measure, saved_seconds
from services.adapter.training.help_records import EMPTY, RECORD, RIGHT, UNKNOWN, WRONG, Records

NOW = 1_800_000_000.0
DAY = 86_400.0


def rows(
    count: int,
    *,
    blind: bool,
    right: float = 0.8,
    seconds: float = 8.0,
    who: int = 1,
    age: float = 3 * DAY,
) -> Records:
    """Return records of one annotator, of which a share agrees with the model; seconds lie around a median."""
    found = np.zeros(count, RECORD)
    found["annotation"] = np.arange(count) + 100_000 * (2 * who + blind)
    found["made_at"] = NOW - age
    found["annotator"] = who
    found["seconds"] = seconds * np.exp(np.linspace(-1, 1, count))
    found["p1"] = 0.7
    found["blind"] = blind
    found["answer"] = np.where(np.arange(count) < right * count, RIGHT, WRONG)
    return found


def both(*parts: Records) -> HelpMeasures:
    return measure(np.concatenate(parts), 0.05, NOW)


def test_accuracy_is_that_of_blind_annotations() -> None:
    found = both(rows(100, blind=True, right=0.6), rows(900, blind=False, right=0.9))
    assert found.accuracy
    assert (found.blind, found.blind_right, found.accuracy.value) == (100, 60, 0.6)
    assert (found.shown, found.shown_agreed) == (900, 810)
    assert found.accuracy.low < 0.6 < found.accuracy.high
    assert found.expected == pytest.approx(0.7)


@pytest.mark.parametrize(("without", "expected"), [(5, pytest.approx(0.7)), (6, None)])
def test_what_the_model_expected_needs_nearly_all_probabilities(without: int, expected: float | None) -> None:
    """Answers of a version from label names have none."""
    blind = rows(50, blind=True)
    blind["p1"][:without] = 0.0
    found = both(blind, rows(50, blind=False))
    assert found.accuracy
    assert found.expected == expected


def test_accepted_wrong_suggestions_are_estimated() -> None:
    """40 of 100 answers are wrong unseen, and 10 of 100 disagree where they are seen: three quarters were accepted."""
    found = both(rows(400, blind=True, right=0.6), rows(4000, blind=False, right=0.9)).accepted_wrong
    assert found
    assert found.value == pytest.approx(0.75, abs=0.01)
    assert 0.65 < found.low < found.value < found.high < 0.85


def test_independent_annotators_accept_no_wrong_suggestions() -> None:
    found = both(rows(400, blind=True, right=0.7), rows(4000, blind=False, right=0.7)).accepted_wrong
    assert found
    assert found.low == 0.0
    assert found.value < 0.01


def test_seconds_are_compared_within_each_annotator() -> None:
    """A slow annotator labels most of the blind tasks: over all, suggestions seem to save far more than they do."""
    found = both(
        rows(300, blind=True, seconds=30.0, who=1),
        rows(300, blind=False, seconds=27.0, who=1),
        rows(30, blind=True, seconds=6.0, who=2),
        rows(900, blind=False, seconds=5.0, who=2),
        rows(500, blind=False, seconds=1.0, who=3),
    )
    assert found.saved_seconds
    assert (found.annotators, found.timed_blind) == (2, 330)
    assert found.saved_seconds.low < 0.25 * 3.0 + 0.75 * 1.0 < found.saved_seconds.high
    assert found.saved_seconds.value < 4.0


def test_saved_time_is_that_of_this_week() -> None:
    old, new = (rows(500, blind=False, seconds=6.0, age=age) for age in (20 * DAY, 2 * DAY))
    new["annotation"] += 50_000
    found = both(rows(200, blind=True, seconds=12.0, age=20 * DAY), old, new)
    assert found.saved_seconds
    assert found.saved_this_week
    assert found.shown_this_week == 500
    assert found.saved_this_week == found.saved_seconds.scaled(500)
    assert 0 < found.saved_this_week.low < 500 * 6.0 < found.saved_this_week.high


def test_nothing_is_said_without_blind_annotations() -> None:
    assert measure(EMPTY, 0.05, NOW) == HelpMeasures(0.05)
    assert both(rows(500, blind=False)) == HelpMeasures(0.05)


def test_nothing_is_said_of_too_few_blind_annotations() -> None:
    found = both(rows(MIN_BLIND - 1, blind=True, right=0.5), rows(500, blind=False))
    assert (found.blind, found.timed_blind) == (MIN_BLIND - 1, MIN_BLIND - 1)
    assert (found.accuracy, found.expected, found.accepted_wrong, found.saved_seconds) == (None,) * 4
    assert found.saved_this_week is None


def test_nothing_is_said_of_seconds_that_are_unknown() -> None:
    unknown = rows(100, blind=True)
    unknown["seconds"] = np.nan
    found = both(unknown, rows(500, blind=False))
    assert found.accuracy
    assert (found.timed_blind, found.saved_seconds) == (0, None)


def test_unknown_answers_count_for_seconds_alone() -> None:
    unknown = rows(100, blind=True)
    unknown["answer"] = UNKNOWN
    found = both(unknown, rows(500, blind=False))
    assert (found.blind, found.accuracy) == (0, None)
    assert found.saved_seconds


def test_annotations_before_the_first_blind_one_do_not_count() -> None:
    early = rows(500, blind=False, age=5 * DAY)
    assert both(rows(50, blind=True), early).shown == 0


def test_annotations_older_than_four_weeks_do_not_count() -> None:
    assert both(rows(50, blind=True, age=29 * DAY), rows(50, blind=False)) == HelpMeasures(0.05)


SECONDS = st.lists(st.floats(0.125, 3600, width=32), min_size=5, max_size=30).map(
    lambda found: np.array(found, np.float32)
)


@given(st.lists(st.tuples(SECONDS, SECONDS), min_size=1, max_size=5))
def test_saved_seconds_lie_between_those_of_each(
    people: list[tuple[NDArray[np.float32], NDArray[np.float32]]],
) -> None:
    found = saved_seconds(people)
    assert found.low <= found.value <= found.high
    equal = saved_seconds([(blind, blind) for blind, _ in people])
    assert equal.value == pytest.approx(0.0, abs=1e-3)
    alone = [saved_seconds([one]).value for one in people]
    assert min(alone) - 1e-2 <= found.value <= max(alone) + 1e-2


@pytest.mark.parametrize("saved", [0.0, 2.0])
def test_interval_of_saved_seconds_covers_the_truth(saved: float) -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        blind = np.float32(10) * np.exp(random.normal(0, 0.6, 40)).astype(np.float32)
        shown = np.float32(10 - saved) * np.exp(random.normal(0, 0.6, 400)).astype(np.float32)
        found = saved_seconds([(blind, shown)])
        covered += found.low <= saved <= found.high
    assert 0.9 < covered / 300 < 0.99
