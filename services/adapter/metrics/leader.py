"""What the leader counts. It stands in no registry: `exposition` gives it out while this process leads."""

from __future__ import annotations

import threading
from typing import Final

from prometheus_client import Counter, Histogram

from services.core.domain import GateDecision, RunState

OTHER: Final = "other"


class ProjectNames:
    """Projects as the label `project`: the first `most` that came, those beyond as `other`. From any thread."""

    def __init__(self, max_named: int = 200) -> None:
        """Nobody has a name yet."""
        self.max_named = max_named
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def label_of(self, project_id: int) -> str:
        """The value of the label; a project that has one keeps it."""
        with self._lock:
            if project_id not in self._known and len(self._known) < self.max_named:
                self._known.add(project_id)
            return str(project_id) if project_id in self._known else OTHER

    def remove(self, project_id: int) -> None:
        """The project is gone, and another one may have its place."""
        with self._lock:
            self._known.discard(project_id)


project_names: Final = ProjectNames()

GATE_KINDS: Final = {
    "promote": ("first", "labels-changed", "not-worse", "better"),
    "hold": ("too-few", "worse", "label-worse", "not-better"),
}
"""Reasons of the gate, by what it decided (GateDecision.kind)."""

RUN_OUTCOMES: Final = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)
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

LEADER_METRICS: Final = (
    _finished,
    _decisions,
    _unannounced,
    _queue_seconds,
    _duration_seconds,
    _rollout_seconds,
)

for _end in RUN_OUTCOMES:
    _duration_seconds.labels(_end)


def add_project(project_id: int) -> None:
    """The leader looks after the project: what it counts of it begins at 0."""
    name = project_names.label_of(project_id)
    _unannounced.labels(name)
    for outcome in RUN_OUTCOMES:
        _finished.labels(name, outcome)
    for decision, kinds in GATE_KINDS.items():
        for kind in kinds:
            _decisions.labels(name, decision, kind)


def remove_series(name: str) -> None:
    """The project of this name is gone, and so are its series."""
    for counted in (_finished, _decisions, _unannounced):
        counted.remove_by_labels({"project": name})


def observe_run_started(seconds: float) -> None:
    """A run's first process began, so long after it was asked for."""
    _queue_seconds.observe(max(0.0, seconds))


def observe_run_ended(project_id: int, outcome: RunState, seconds: float | None) -> None:
    """A run has ended, so long after its first process began; None where there was none."""
    _finished.labels(project_names.label_of(project_id), outcome).inc()
    if seconds is not None:
        _duration_seconds.labels(outcome).observe(max(0.0, seconds))


def count_decision(project_id: int, gate: GateDecision) -> None:
    """The gate's word on a version that was taken up."""
    _decisions.labels(
        project_names.label_of(project_id), *decision_labels(promote=gate.promote, kind=gate.kind)
    ).inc()


def decision_labels(*, promote: bool, kind: str) -> tuple[str, str]:
    """What the gate said as the labels `decision` and `kind`."""
    decision = "promote" if promote else "hold"
    return decision, kind if kind in GATE_KINDS[decision] else OTHER


def count_unannounced(project_id: int) -> None:
    """Labels changed, and no event told of it."""
    _unannounced.labels(project_names.label_of(project_id)).inc()


def observe_rollout(seconds: float) -> None:
    """A version serves, so long after it was to be served."""
    _rollout_seconds.observe(max(0.0, seconds))
