"""What suggestions do for annotators, as the board shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.core.intervals import Interval

MIN_BLIND: Final = 20
"""Annotations without a suggestion below which nothing is said."""


@dataclass(frozen=True, slots=True)
class HelpMeasures:
    """By the annotations of the last four weeks, since some tasks have had no suggestion. None: too few of them to say."""

    share: float
    """FITLOOP_BLIND_SHARE: the share of texts without a suggestion."""
    blind: int = 0
    """Annotations without a suggestion of which it is known what the model would have suggested ..."""
    blind_right: int = 0
    """... and those of them that it would have been right on."""
    shown: int = 0
    """Annotations with a suggestion ..."""
    shown_agreed: int = 0
    """... and those of them that agree with it."""
    accuracy: Interval | None = None
    """Share of blind annotations that the model was right on."""
    expected: float | None = None
    """The mean of its probabilities there: what it expected to be right on."""
    accepted_wrong: Interval | None = None
    """Share of wrong suggestions that annotators accepted, although on their own they would have answered otherwise."""
    timed_blind: int = 0
    """Annotations without a suggestion whose time is known, by annotators who have enough of both kinds."""
    annotators: int = 0
    """Those annotators."""
    seconds_blind: float | None = None
    """Median seconds of an annotation without a suggestion."""
    seconds_shown: float | None = None
    """The same with one."""
    saved_seconds: Interval | None = None
    """Seconds that a suggestion saves; negative if it costs time."""
    shown_this_week: int = 0
    """Annotations with a suggestion by those annotators in the last seven days."""

    @property
    def saved_this_week(self) -> Interval | None:
        """Seconds that suggestions have saved in the last seven days; None if that cannot be said."""
        return self.saved_seconds.scaled(self.shown_this_week) if self.saved_seconds else None
