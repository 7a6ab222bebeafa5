"""What suggestions do for annotators, in sentences; and what is missing to say it. Pure."""

from __future__ import annotations

from typing import Final

from services.adapter.state.help import MIN_BLIND, HelpMeasures
from services.core.intervals import Interval

NOT_MEASURED: Final = (
    "What suggestions do for annotators is not measured: that takes a share of tasks without a suggestion. Set "
    "`FITLOOP_BLIND_SHARE`, such as 0.05 (`adapter.blindShare` of the chart)."
)
_HOUR: Final = 3600.0


def help_sentences(found: HelpMeasures | None) -> tuple[str, ...]:
    """Return what is known, one sentence or two each, the saved time first."""
    if found is None:
        return ()
    if not found.share:
        return (NOT_MEASURED,)
    parts = (saved_sentence(found), _seconds(found), _accuracy(found), _accepted_wrong(found))
    return tuple(filter(None, parts))


def saved_sentence(found: HelpMeasures) -> str:
    """Return how much time suggestions have saved this week, with the interval, or why that cannot be said."""
    saved = found.saved_this_week
    if saved is None:
        return (
            f"Whether suggestions save time cannot be said yet: {found.timed_blind} of {MIN_BLIND} annotations without a suggestion "
            "are known whose seconds can be compared with those of the same person with suggestions."
        )
    if not found.shown_this_week:
        return "No annotation had a suggestion in the last seven days."
    if saved.low > 0:
        return f"Suggestions saved about {_span(saved)} this week."
    if saved.high < 0:
        return f"Suggestions cost about {_span(Interval(-saved.value, -saved.high, -saved.low))} this week."
    return "No difference in time between annotations with and without a suggestion can be shown yet."


def _seconds(found: HelpMeasures) -> str:
    if found.seconds_shown is None or found.seconds_blind is None or found.saved_seconds is None:
        return ""
    saved, people = (
        found.saved_seconds,
        "1 annotator" if found.annotators == 1 else f"{found.annotators} annotators",
    )
    return (
        f"An annotation takes {found.seconds_shown:.1f} s with a suggestion and {found.seconds_blind:.1f} s without one (medians of "
        f"{people}); a suggestion saves {_signed(saved.value)} s ({_signed(saved.low)} to {_signed(saved.high)})."
    )


def _accuracy(found: HelpMeasures) -> str:
    if found.accuracy is None:
        return (
            f"The model's accuracy on tasks without a suggestion is not known yet: {found.blind} of {MIN_BLIND} annotations "
            "are known."
        )
    expected = "" if found.expected is None else f", and expected {100 * found.expected:.0f} %"
    return (
        f"On tasks without a suggestion the model was right on {_percent(found.accuracy)} of {found.blind} annotations{expected}. "
        "These are the texts that were labelled: with uncertainty sampling, the hardest ones."
    )


def _accepted_wrong(found: HelpMeasures) -> str:
    if found.accepted_wrong is None:
        return ""
    return (
        f"Annotators accepted about {_percent(found.accepted_wrong)} of the wrong suggestions: with a suggestion they agree with the "
        f"model on {100 * found.shown_agreed / found.shown:.0f} %, which overestimates it, and without one on "
        f"{100 * found.blind_right / found.blind:.0f} %."
    )


def _percent(share: Interval) -> str:
    return f"{100 * share.value:.0f} % ({100 * share.low:.0f}–{100 * share.high:.0f})"


def _signed(seconds: float) -> str:
    return f"{seconds:.1f}".replace("-", "\N{MINUS SIGN}")


def _span(seconds: Interval) -> str:
    """Return `1.2 hours (0.8 to 1.6)`, or in minutes below an hour."""
    unit, name = (_HOUR, "hours") if seconds.value >= _HOUR else (60.0, "minutes")
    value, low, high = (one / unit for one in (seconds.value, seconds.low, seconds.high))
    digits = 1 if unit == _HOUR or value < 10 else 0
    return f"{value:.{digits}f} {name} ({low:.{digits}f} to {high:.{digits}f})"
