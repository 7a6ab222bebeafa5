"""Gauges of what suggestions do for annotators. Absent while no task goes without a suggestion, and until enough have. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.adapter.metrics.gauges import ProjectGauge, Read, Values, from_view
from services.adapter.state.board import ProjectView
from services.adapter.state.help import HelpMeasures
from services.core.domain import Served
from services.core.intervals import Interval


def _measured(read: Callable[[HelpMeasures], float | None]) -> Read:
    """Read a value, unless nothing is measured."""
    return from_view(
        lambda view: read(view.figures.help) if view.figures.help and view.figures.help.share else None
    )


def _value(found: Interval | None) -> float | None:
    return found.value if found else None


def _seconds(view: ProjectView, _: Served) -> Values:
    found = view.figures.help
    if found and found.saved_seconds:
        yield ("with",), found.seconds_shown
        yield ("without",), found.seconds_blind


HELP_GAUGES: Final = (
    ProjectGauge(
        "fitloop_blind_annotations",
        "Annotations of the last four weeks made without a suggestion on purpose (FITLOOP_BLIND_SHARE), with a known answer of the "
        "model.",
        _measured(lambda found: found.blind),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_blind_accuracy_ratio",
        "Share of those annotations that the model would have been right on; absent below 20 of them. Where annotators get the most "
        "uncertain texts, it is lower than the accuracy on all texts.",
        _measured(lambda found: _value(found.accuracy)),
    ),
    ProjectGauge(
        "fitloop_blind_expected_ratio",
        "Mean probability of the model's answers for those annotations; absent below 20 of them.",
        _measured(lambda found: found.expected),
    ),
    ProjectGauge(
        "fitloop_wrong_suggestions_accepted_ratio",
        "Estimated share of wrong suggestions that annotators accepted; absent while it cannot be estimated.",
        _measured(lambda found: _value(found.accepted_wrong)),
    ),
    ProjectGauge(
        "fitloop_annotation_seconds",
        "Median seconds of an annotation with and without a suggestion, by annotators who have made enough of both.",
        _seconds,
        {"suggestion": ("with", "without")},
    ),
    ProjectGauge(
        "fitloop_saved_seconds",
        "Estimated seconds that suggestions saved in the last seven days, negative if they cost time; absent while it cannot be "
        "estimated. Not significant unless its lower bound is positive.",
        _measured(lambda found: _value(found.saved_this_week)),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_saved_low_seconds",
        "Lower bound of the saved seconds' 95 % interval.",
        _measured(lambda found: found.saved_this_week.low if found.saved_this_week else None),
    ),
    ProjectGauge(
        "fitloop_saved_high_seconds",
        "Upper bound of the saved seconds' 95 % interval.",
        _measured(lambda found: found.saved_this_week.high if found.saved_this_week else None),
    ),
)
