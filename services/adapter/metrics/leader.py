"""What the leader counts. It stands in no registry: `exposition` gives it out while this process leads."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Histogram

from services.adapter.metrics import names
from services.adapter.metrics.names import OTHER
from services.core.domain import GateDecision, RunState

GATE_KINDS: Final = {
    "promote": ("first", "labels-changed", "not-worse", "better"),
    "hold": ("too-few", "worse", "label-worse", "not-better"),
}
"""Reasons of the gate, by what it decided (GateDecision.kind)."""
OUTCOMES: Final = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)
"""How a run may end."""
_LONG_SECONDS: Final = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600)

_finished = Counter("fitloop_runs_finished", "Runs that have ended.", ["project", "outcome"], registry=None)
_decisions = Counter(
    "fitloop_gate_decisions",
    "What the gate said of versions that were published, and its reason.",
    ["project", "decision", "kind"],
    registry=None,
)
_unannounced = Counter(
    "fitloop_project_unannounced_changes",
    "Looks at Label Studio that found changed labels of which no event had told: lost webhooks.",
    ["project"],
    registry=None,
)
_queue_seconds = Histogram(
    "fitloop_run_queue_seconds",
    "Seconds from a run's request to its first process.",
    buckets=_LONG_SECONDS,
    registry=None,
)
_duration_seconds = Histogram(
    "fitloop_run_duration_seconds",
    "Seconds from a run's first process to its end.",
    ["outcome"],
    buckets=_LONG_SECONDS,
    registry=None,
)
_rollout_seconds = Histogram(
    "fitloop_rollout_seconds",
    "Seconds from a version that is to be served to the table that names it as served.",
    buckets=_LONG_SECONDS,
    registry=None,
)
OF_LEADER: Final = (_finished, _decisions, _unannounced, _queue_seconds, _duration_seconds, _rollout_seconds)

for _end in OUTCOMES:
    _duration_seconds.labels(_end)


def begin(project_id: int) -> None:
    """The leader looks after the project: what it counts of it begins at 0."""
    name = names.projects.of(project_id)
    _unannounced.labels(name)
    for outcome in OUTCOMES:
        _finished.labels(name, outcome)
    for decision, kinds in GATE_KINDS.items():
        for kind in kinds:
            _decisions.labels(name, decision, kind)


def forget(name: str) -> None:
    """The project of this name is gone, and so are its series."""
    for counted in (_finished, _decisions, _unannounced):
        counted.remove_by_labels({"project": name})


def run_started(seconds: float) -> None:
    """A run's first process began, so long after it was asked for."""
    _queue_seconds.observe(max(0.0, seconds))


def run_ended(project_id: int, outcome: RunState, seconds: float | None) -> None:
    """A run has ended, so long after its first process began; None where there was none."""
    _finished.labels(names.projects.of(project_id), outcome).inc()
    if seconds is not None:
        _duration_seconds.labels(outcome).observe(max(0.0, seconds))


def decided(project_id: int, gate: GateDecision) -> None:
    """The gate's word on a version that was taken up."""
    _decisions.labels(names.projects.of(project_id), *said(promote=gate.promote, kind=gate.kind)).inc()


def said(*, promote: bool, kind: str) -> tuple[str, str]:
    """What the gate said as the labels `decision` and `kind`."""
    decision = "promote" if promote else "hold"
    return decision, kind if kind in GATE_KINDS[decision] else OTHER


def unannounced(project_id: int) -> None:
    """Labels changed, and no event told of it."""
    _unannounced.labels(names.projects.of(project_id)).inc()


def rolled_out(seconds: float) -> None:
    """A version serves, so long after it was to be served."""
    _rollout_seconds.observe(max(0.0, seconds))
