"""Gauges of the accuracy that is expected of a project's served version, and of how far earlier ones were off. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from services.adapter.metrics.gauges import ProjectGauge, Read, Values, from_view
from services.adapter.state.board import ProjectView
from services.core.domain import EstimateErrors, ExpectedAccuracy, Served


def _of_expected(read: Callable[[ExpectedAccuracy], float | None]) -> Read:
    """Read a value, unless it is unknown, or the known manifest is not that of the version in effect."""

    def values(view: ProjectView, served: Served) -> Values:
        current = view.figures.current
        if current and current.version == served.current and current.expected:
            yield (), None if current.expected.accuracy is None else read(current.expected)

    return values


def _of_errors(read: Callable[[EstimateErrors], float]) -> Read:
    return from_view(lambda view: read(view.figures.estimates) if view.figures.estimates else None)


ESTIMATE_GAUGES: Final = (
    ProjectGauge(
        "fitloop_version_expected_ratio",
        "Accuracy to expect of the served version on the project's unlabelled texts, F1 where a text may have several labels; absent if "
        "there are too few labels to say, and of versions of earlier releases.",
        _of_expected(lambda found: found.accuracy),
    ),
    ProjectGauge(
        "fitloop_version_expected_margin_ratio",
        "Half of the interval around the expected accuracy, or F1.",
        _of_expected(lambda found: found.margin),
    ),
    ProjectGauge(
        "fitloop_estimate_error_ratio",
        "Mean absolute error of the expected accuracy of the last versions (up to 10), compared with annotations that came after "
        "them; absent before any has 50, and where a text may have several labels. `other`: the largest of a project.",
        _of_errors(lambda found: found.error),
        worst=max,
    ),
    ProjectGauge(
        "fitloop_estimate_chance_ratio",
        "Mean absolute error that chance alone would cause in that comparison. `other`: the largest of a project.",
        _of_errors(lambda found: found.chance),
        worst=max,
    ),
    ProjectGauge(
        "fitloop_estimate_scored_versions",
        "Versions in that comparison.",
        _of_errors(lambda found: found.versions),
        summable=True,
    ),
)
