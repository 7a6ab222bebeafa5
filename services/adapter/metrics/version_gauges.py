"""Gauges of a project's served version, and of its rollout. Pure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final

from services.adapter.metrics import leader_metrics
from services.adapter.metrics.gauges import ProjectGauge, Read, Values, from_view
from services.adapter.state.board import CurrentVersion, ProjectView
from services.core.domain import Estimate, Outlook, Served

ROLLOUT_STATES: Final = ("settled", "moving", "blocked")


def _of_served_version(read: Callable[[CurrentVersion], float | None]) -> Read:
    """Read a value, unless the known manifest is not that of the version in effect."""

    def values(view: ProjectView, served: Served) -> Values:
        current = view.figures.current
        return [((), read(current))] if current and current.version == served.current else []

    return values


def _of_estimate(read: Callable[[Estimate], float | None]) -> Read:
    """Read a value of the estimate, unless no text was evaluated."""
    return _of_served_version(lambda version: read(version.estimate) if version.estimate.judged else None)


def _of_outlook(read: Callable[[Outlook], float]) -> Read:
    """Read a value of the forecast, unless there is none."""
    return _of_served_version(lambda version: read(version.outlook) if version.outlook else None)


def _version_info(view: ProjectView, served: Served) -> Values:
    current = view.figures.current
    if current and current.version == served.current:
        yield (current.version, current.method, current.engine), 1.0


def _served_since(view: ProjectView, served: Served) -> Values:
    if served.current and served.current == view.served.current:
        yield (), served.since or None


def _gate_decided(view: ProjectView, _: Served) -> Values:
    if judged := view.figures.judged:
        yield leader_metrics.decision_labels(promote=judged.promote, kind=judged.kind), judged.at


def _rollout(view: ProjectView, _: Served) -> Values:
    return [((state,), float(state == view.figures.rollout)) for state in ROLLOUT_STATES]


VERSION_GAUGES: Final = (
    ProjectGauge(
        "fitloop_version_info",
        "1, labelled with the served version, its method and its engine; `zero-shot`: from label names only; `label-studio-ml`: a class of your own.",
        _version_info,
        {
            "version": (),
            "method": ("linear-probe", "lp-ft", "finetune", "zero-shot", "label-studio-ml"),
            "engine": ("ct2-int8", "ort-int8", "torch-fp32", "label-studio-ml"),
        },
    ),
    ProjectGauge(
        "fitloop_version_evaluated",
        "1 if labels say how often the served version is right; 0 if it was not evaluated: from label names only, or of a class of your own.",
        _of_served_version(lambda version: float(version.is_evaluated)),
    ),
    ProjectGauge(
        "fitloop_version_score_ratio",
        "Cross-validated accuracy of the served version, or F1 where a text may have several labels: far too low where labels were chosen by uncertainty.",
        _of_estimate(lambda one: one.right / one.judged if one.micro_f1 is None else one.micro_f1),
    ),
    ProjectGauge(
        "fitloop_version_score_low_ratio",
        "Lower bound of the 95 % interval (Wilson) of the cross-validated accuracy; absent where a text may have several labels.",
        _of_estimate(lambda one: one.low if one.micro_f1 is None else None),
    ),
    ProjectGauge(
        "fitloop_version_score_high_ratio",
        "Upper bound of the 95 % interval (Wilson) of the cross-validated accuracy; absent where a text may have several labels.",
        _of_estimate(lambda one: one.high if one.micro_f1 is None else None),
    ),
    ProjectGauge(
        "fitloop_version_judged_texts",
        "Texts that the served version was cross-validated on; below 20 that accuracy is not meaningful.",
        _of_served_version(lambda version: version.estimate.judged),
    ),
    ProjectGauge(
        "fitloop_version_served_timestamp_seconds",
        "When the served version took effect; absent while switching to the next.",
        _served_since,
    ),
    ProjectGauge(
        "fitloop_version_created_timestamp_seconds",
        "When the served version was created.",
        _of_served_version(lambda version: version.created_at),
    ),
    ProjectGauge(
        "fitloop_forecast_low_ratio",
        "Lower end of the accuracy forecast for twice as many labels; absent without a forecast.",
        _of_outlook(lambda found: found.forecast.low),
    ),
    ProjectGauge(
        "fitloop_forecast_high_ratio",
        "Upper end of the accuracy forecast for twice as many labels; absent without a forecast.",
        _of_outlook(lambda found: found.forecast.high),
    ),
    ProjectGauge(
        "fitloop_forecasts_scored",
        "Earlier forecasts of the project whose number of labels was reached; absent without a forecast.",
        _of_outlook(lambda found: found.scored),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_forecasts_held",
        "Those of them that held: the accuracy reached lies in the range forecast; absent without a forecast.",
        _of_outlook(lambda found: found.right),
        summable=True,
    ),
    ProjectGauge(
        "fitloop_gate_decided_timestamp_seconds",
        "When the latest version was created, labelled with its gate decision; absent before the first.",
        _gate_decided,
        {
            "decision": tuple(leader_metrics.GATE_KINDS),
            "kind": (*chain(*leader_metrics.GATE_KINDS.values()), leader_metrics.OTHER),
        },
    ),
    ProjectGauge(
        "fitloop_rollout_state",
        "1 for the state of the project's rollout: `settled`, `moving` while a version is being rolled out, `blocked` if that "
        "cannot proceed.",
        _rollout,
        {"state": ROLLOUT_STATES},
        summable=True,
    ),
    ProjectGauge(
        "fitloop_rollout_started_timestamp_seconds",
        "When the current rollout started; absent if there is none. `other`: the earliest.",
        from_view(lambda view: view.figures.rollout_since),
        worst=min,
    ),
)
