"""Metrics of the leader. They are in no registry: `exposition` exports them while this process leads."""

from __future__ import annotations

import threading
from typing import Final, Literal

from prometheus_client import Counter, Histogram

from services.core.domain import GateDecision, RunState

OTHER: Final = "other"
SuggestionSource = Literal["run", "predictor"]


class ProjectNames:
    """Values of the label `project`: the first `max_named` projects seen, then `other`. Thread-safe."""

    def __init__(self, max_named: int = 200) -> None:
        self.max_named = max_named
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def label_of(self, project_id: int) -> str:
        """Return the label value; a project keeps the one it has."""
        with self._lock:
            if project_id not in self._known and len(self._known) < self.max_named:
                self._known.add(project_id)
            return str(project_id) if project_id in self._known else OTHER

    def remove(self, project_id: int) -> None:
        """Free the project's label value for another one."""
        with self._lock:
            self._known.discard(project_id)


project_names: Final = ProjectNames()

GATE_KINDS: Final = {
    "promote": ("first", "label-names", "not-evaluated", "labels-changed", "not-worse", "better"),
    "hold": ("too-few", "worse", "label-worse", "not-better"),
}
"""Kinds of gate decisions (GateDecision.kind)."""

RUN_OUTCOMES: Final = (RunState.DONE, RunState.FAILED, RunState.CANCELLED)
"""Final states of a run."""

_LONG_SECONDS: Final = (1, 3, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200, 21_600)

_finished = Counter(
    "fitloop_runs_finished", "Number of finished runs.", ["project", "outcome"], registry=None
)

_embed_finished = Counter(
    "fitloop_embed_runs_finished",
    "Number of finished runs that compute features of unlabelled texts.",
    ["project", "outcome"],
    registry=None,
)

_decisions = Counter(
    "fitloop_gate_decisions",
    "Gate decisions on published versions, by decision and kind.",
    ["project", "decision", "kind"],
    registry=None,
)

_unannounced = Counter(
    "fitloop_project_unannounced_changes",
    "Polls of Label Studio that found changed labels without an event: lost webhooks.",
    ["project"],
    registry=None,
)

SUGGESTION_SOURCES: Final[tuple[SuggestionSource, ...]] = ("run", "predictor")

_suggestions = Counter(
    "fitloop_suggestions_pushed",
    "Number of predictions pushed to Label Studio for unlabelled tasks, by what computed them: the version's run, or a predictor on demand.",
    ["project", "source"],
    registry=None,
)

_queue_seconds = Histogram(
    "fitloop_run_queue_seconds",
    "Seconds from a run's request to the start of its first attempt.",
    buckets=_LONG_SECONDS,
    registry=None,
)

_duration_seconds = Histogram(
    "fitloop_run_duration_seconds",
    "Seconds from the start of a run's first attempt to its end.",
    ["outcome"],
    buckets=_LONG_SECONDS,
    registry=None,
)

_rollout_seconds = Histogram(
    "fitloop_rollout_seconds",
    "Seconds from a version becoming the target to it being the served version.",
    buckets=_LONG_SECONDS,
    registry=None,
)

LEADER_METRICS: Final = (
    _finished,
    _embed_finished,
    _decisions,
    _unannounced,
    _suggestions,
    _queue_seconds,
    _duration_seconds,
    _rollout_seconds,
)

for _end in RUN_OUTCOMES:
    _duration_seconds.labels(_end)


def add_project(project_id: int) -> None:
    """Start a project's series at 0."""
    name = project_names.label_of(project_id)
    _unannounced.labels(name)
    for source in SUGGESTION_SOURCES:
        _suggestions.labels(name, source)
    for outcome in RUN_OUTCOMES:
        _finished.labels(name, outcome)
        _embed_finished.labels(name, outcome)
    for decision, kinds in GATE_KINDS.items():
        for kind in kinds:
            _decisions.labels(name, decision, kind)


def remove_series(name: str) -> None:
    """Remove the series of a project's label."""
    for counted in (_finished, _embed_finished, _decisions, _unannounced, _suggestions):
        counted.remove_by_labels({"project": name})


def observe_run_started(seconds: float) -> None:
    """Observe the time from a run's request to its first attempt."""
    _queue_seconds.observe(max(0.0, seconds))


def observe_run_ended(project_id: int, outcome: RunState, seconds: float | None) -> None:
    """Count a finished run; `seconds` since its first attempt started, None if none did."""
    _finished.labels(project_names.label_of(project_id), outcome).inc()
    if seconds is not None:
        _duration_seconds.labels(outcome).observe(max(0.0, seconds))


def observe_embed_run_ended(project_id: int, outcome: RunState) -> None:
    """Count a finished run of kind `embed`."""
    _embed_finished.labels(project_names.label_of(project_id), outcome).inc()


def count_decision(project_id: int, gate: GateDecision) -> None:
    """Count the gate decision on a version."""
    _decisions.labels(
        project_names.label_of(project_id), *decision_labels(promote=gate.promote, kind=gate.kind)
    ).inc()


def decision_labels(*, promote: bool, kind: str) -> tuple[str, str]:
    """Return the label values of `decision` and `kind`."""
    decision = "promote" if promote else "hold"
    return decision, kind if kind in GATE_KINDS[decision] else OTHER


def count_unannounced(project_id: int) -> None:
    """Count a poll that found changes without an event."""
    _unannounced.labels(project_names.label_of(project_id)).inc()


def count_suggestions(project_id: int, source: SuggestionSource, count: int) -> None:
    """Count predictions that were pushed for unlabelled tasks."""
    _suggestions.labels(project_names.label_of(project_id), source).inc(count)


def observe_rollout(seconds: float) -> None:
    """Observe the time from a version becoming the target to it being served."""
    _rollout_seconds.observe(max(0.0, seconds))
