"""The version that a project serves, and the one that is on its way. Pure."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Final

from services.adapter.metrics import leader
from services.adapter.metrics.gauges import ProjectGauge, Read, Values, from_view
from services.adapter.state.board import CurrentVersion, ProjectView
from services.core.domain import Estimate, Served

ROLLOUT_STATES: Final = ("settled", "moving", "blocked")


def _of_served_version(read: Callable[[CurrentVersion], float | None]) -> Read:
    """Nothing where the manifest that is known is not of the version that is told of."""

    def values(view: ProjectView, told: Served) -> Values:
        current = view.figures.current
        return [((), read(current))] if current and current.version == told.current else []

    return values


def _of_estimate(read: Callable[[Estimate], float]) -> Read:
    """Nothing where no text was judged."""
    return _of_served_version(lambda version: read(version.estimate) if version.estimate.judged else None)


def _version_info(view: ProjectView, told: Served) -> Values:
    current = view.figures.current
    if current and current.version == told.current:
        yield (current.version, current.method, current.engine), 1.0


def _served_since(view: ProjectView, told: Served) -> Values:
    if told.current and told.current == view.served.current:
        yield (), told.since or None


def _gate_decided(view: ProjectView, _: Served) -> Values:
    if judged := view.figures.judged:
        yield leader.decision_labels(promote=judged.promote, kind=judged.kind), judged.at


def _rollout(view: ProjectView, _: Served) -> Values:
    return [((state,), float(state == view.figures.rollout)) for state in ROLLOUT_STATES]


VERSION_GAUGES: Final = (
    ProjectGauge(
        "fitloop_version_info",
        "1, with the version that is served, how it was made, and the engine that computes it.",
        _version_info,
        {
            "version": (),
            "method": ("linear-probe", "lp-ft", "finetune"),
            "engine": ("ct2-int8", "torch-fp32"),
        },
    ),
    ProjectGauge(
        "fitloop_version_score_ratio",
        "How often the served version is right on texts that it was not trained on: an estimate, usually low.",
        _of_estimate(lambda estimate: estimate.right / estimate.judged),
    ),
    ProjectGauge(
        "fitloop_version_score_low_ratio",
        "Lower end of that estimate's interval (Wilson, 95 %).",
        _of_estimate(lambda estimate: estimate.low),
    ),
    ProjectGauge(
        "fitloop_version_score_high_ratio",
        "Upper end of that estimate's interval (Wilson, 95 %).",
        _of_estimate(lambda estimate: estimate.high),
    ),
    ProjectGauge(
        "fitloop_version_judged_texts",
        "Texts by which the served version was judged; below 20 the score says nothing.",
        _of_served_version(lambda version: version.estimate.judged),
    ),
    ProjectGauge(
        "fitloop_version_served_timestamp_seconds",
        "Since when the served version serves; absent in the moment between two.",
        _served_since,
    ),
    ProjectGauge(
        "fitloop_version_created_timestamp_seconds",
        "When the served version was made.",
        _of_served_version(lambda version: version.created_at),
    ),
    ProjectGauge(
        "fitloop_gate_decided_timestamp_seconds",
        "When the newest version was made, with what the gate decided of it and why; absent before the first.",
        _gate_decided,
        {
            "decision": tuple(leader.GATE_KINDS),
            "kind": (*chain(*leader.GATE_KINDS.values()), leader.OTHER),
        },
    ),
    ProjectGauge(
        "fitloop_rollout_state",
        "1 for where the project's rollout stands: `settled`, `moving` while a version is brought to the predictors, "
        "`blocked` while something hinders that.",
        _rollout,
        {"state": ROLLOUT_STATES},
        summable=True,
    ),
    ProjectGauge(
        "fitloop_rollout_started_timestamp_seconds",
        "When the version that is on its way was to be served; absent while none is.",
        from_view(lambda view: view.figures.rollout_since),
    ),
)
