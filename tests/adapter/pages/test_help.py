"""Sentences say no more than the figures support."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.adapter.pages.help import NOT_MEASURED, help_sentences, saved_sentence
from services.adapter.state.help import HelpMeasures
from services.core.intervals import Interval

KNOWN = HelpMeasures(
    0.05,
    blind=100,
    blind_right=60,
    shown=900,
    shown_agreed=810,
    accuracy=Interval(0.6, 0.5, 0.69),
    expected=0.63,
    accepted_wrong=Interval(0.75, 0.6, 0.85),
    timed_blind=90,
    annotators=2,
    seconds_blind=12.0,
    seconds_shown=8.0,
    saved_seconds=Interval(4.0, 3.0, 5.0),
    shown_this_week=1800,
)


def test_all_that_is_known_is_said() -> None:
    saved, seconds, accuracy, accepted = help_sentences(KNOWN)
    assert saved == "Suggestions saved about 2.0 hours (1.5 to 2.5) this week."
    assert "8.0 s with a suggestion and 12.0 s without one (medians of 2 annotators)" in seconds
    assert "60 % (50–69) of 100 annotations, and expected 63 %" in accuracy
    assert "about 75 % (60–85) of the wrong suggestions" in accepted
    assert "on 90 %, which overestimates it, and without one on 60 %" in accepted


@pytest.mark.parametrize(
    ("saved", "says"),
    [
        (Interval(1.0, 0.5, 2.0), "Suggestions saved about 30 minutes (15 to 60) this week."),
        (Interval(0.1, 0.05, 0.2), "Suggestions saved about 3.0 minutes (1.5 to 6.0) this week."),
        (Interval(-4.0, -6.0, -2.0), "Suggestions cost about 2.0 hours (1.0 to 3.0) this week."),
        (
            Interval(1.0, -0.1, 2.1),
            "No difference in time between annotations with and without a suggestion can be shown yet.",
        ),
    ],
)
def test_saved_time_is_claimed_only_with_its_interval(saved: Interval, says: str) -> None:
    assert saved_sentence(replace(KNOWN, saved_seconds=saved)) == says


def test_what_is_missing_is_said() -> None:
    saved, accuracy = help_sentences(HelpMeasures(0.05, blind=3, timed_blind=2))
    assert saved.startswith("Whether suggestions save time cannot be said yet: 2 of 20 annotations")
    assert "is not known yet: 3 of 20 annotations" in accuracy


def test_nothing_is_measured_without_a_share() -> None:
    assert help_sentences(HelpMeasures(0.0)) == (NOT_MEASURED,)
    assert help_sentences(None) == ()
