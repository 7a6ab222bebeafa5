"""The runs of one project as the controller sees them: request, processes, status, the labels read; and their metrics.

Read once from the store, then kept: only the leader makes runs, and an ended run no longer changes. Only active runs are read
again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.metrics import leader_metrics
from services.adapter.ports import Launcher
from services.adapter.state.board import ProjectView
from services.adapter.training import trigger
from services.adapter.training.baseline import BaselineLabels, BaselineRun
from services.core.domain import LaunchState, Project, RunRequest, RunState, RunStatus
from services.core.runs import Runs

log = structlog.get_logger()
_MAX_REMEMBERED: Final = 50
"""The runs of a project that decisions consider."""


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run."""

    request: RunRequest
    launch: LaunchState | None = None
    status: RunStatus | None = None
    stale: bool = False
    read_fingerprint: str = ""
    """Of a run of release 0.1.0: the fingerprint of its snapshot, once that was read."""

    @property
    def run(self) -> str:
        return self.request.run

    @property
    def outcome(self) -> RunState | None:
        """DONE, FAILED or CANCELLED; None while it is active."""
        return self.launch.outcome if self.launch else None

    @property
    def waiting_reason(self) -> str:
        """Why no process works on it yet; "" while one does, and once it has ended."""
        return self.launch.waiting if self.launch and self.outcome is None else ""

    @property
    def exit_code(self) -> int | None:
        """The exit code of its last process."""
        return self.launch.attempts[-1].exit_code if self.launch and self.launch.attempts else None

    @property
    def ended_at(self) -> float:
        """When its last process ended."""
        last = self.launch.attempts[-1] if self.launch and self.launch.attempts else None
        return (last.ended_at if last else None) or self.request.created_at

    @property
    def started_at(self) -> float | None:
        """When its first process started; None before."""
        return self.launch.attempts[0].started_at if self.launch and self.launch.attempts else None

    @property
    def fingerprint(self) -> str:
        """The fingerprint of what it was made of."""
        return self.read_fingerprint or self.request.fingerprint

    @property
    def can_be_baseline(self) -> bool:
        """Whether changes are counted from its labels: it was done, cancelled while it ran, or failed after publishing a version."""
        if self.outcome is RunState.CANCELLED:
            return self.started_at is not None and self.status is not None
        has_version = bool(self.status and self.status.published)
        return self.outcome is RunState.DONE or (self.outcome is RunState.FAILED and has_version)

    def as_ended(self) -> trigger.EndedRun:
        """Return the ended run for the trigger; one that failed after it had published counts as done."""
        outcome = self.outcome or RunState.FAILED
        if outcome is RunState.FAILED and self.can_be_baseline:
            outcome = RunState.DONE
        return trigger.EndedRun(
            self.run, self.fingerprint, outcome, self.exit_code, self.ended_at, self.stale
        )


@dataclass(slots=True)
class RunHistory:
    """The remembered runs of a project, oldest first."""

    runs: Runs
    launcher: Launcher
    project: Project
    records: list[RunRecord] = field(default_factory=list)
    _ended: dict[str, trigger.EndedRun] = field(default_factory=dict)

    def load(self) -> None:
        """Read the runs from the store, once."""
        requests = [self.runs.request(name) for name in self.runs.names(self.project.id)[-_MAX_REMEMBERED:]]
        self.records = []
        for request in requests:
            if request and request.project_key == self.project.key:
                self.records.append(self._read(RunRecord(request)))

    def update(self) -> list[RunRecord]:
        """Read the active runs again; return those that ended since the last time."""
        ended = []
        for index, record in enumerate(self.records):
            if record.outcome is None:
                self.records[index] = self._read(record)
                if self.records[index].outcome is not None:
                    ended.append(self.records[index])
                    _log_end(self.records[index])
        return ended

    def add(self, request: RunRequest) -> None:
        self.records.append(RunRecord(request))

    def mark_stale(self, run: str) -> None:
        """Note that the run's version was compared with one that is no longer served."""
        self.records = [
            replace(record, stale=True) if record.run == run else record for record in self.records
        ]
        self._ended.pop(run, None)

    def remove(self, run: str) -> None:
        self.records = [record for record in self.records if record.run != run]

    @property
    def active(self) -> RunRecord | None:
        return next((record for record in self.records if record.outcome is None), None)

    @property
    def last(self) -> RunRecord | None:
        """The run that ended last."""
        return next((record for record in reversed(self.records) if record.outcome is not None), None)

    @property
    def baselines(self) -> tuple[BaselineRun, ...]:
        """The runs that changes of labels may be counted from, the preferred one first."""
        return baseline_runs(self.records)

    def note_baseline(self, baseline: BaselineLabels) -> None:
        """Note what a run of release 0.1.0 was made of, now that its snapshot was read."""
        for index, record in enumerate(self.records):
            if record.run == baseline.run and record.request.labels is None and not record.read_fingerprint:
                parameters = replace(record.request.parameters, control=baseline.from_name or None)
                known = trigger.fingerprint(baseline.digest, baseline.label_config_hash, parameters)
                self.records[index] = replace(record, read_fingerprint=known)
                self._ended.pop(record.run, None)

    @property
    def ended(self) -> tuple[trigger.EndedRun, ...]:
        """The ended runs for the trigger; each fingerprint is computed once."""
        ended = [record for record in self.records if record.outcome is not None]
        for record in ended:
            if record.run not in self._ended:
                self._ended[record.run] = record.as_ended()
        return tuple(self._ended[record.run] for record in ended)

    def has_run_for(self, command_id: str) -> bool:
        """Return whether a run was already requested for the command."""
        return any(command_id in record.request.commands for record in self.records)

    def _read(self, record: RunRecord) -> RunRecord:
        launch = self.launcher.observe(record.run)  # before the status: a final one is complete then
        return replace(record, launch=launch, status=self.runs.status(record.run))


def baseline_runs(records: Sequence[RunRecord]) -> tuple[BaselineRun, ...]:
    """Return the runs (`records` is oldest first) that changes may be counted from, the preferred one first.

    The last one has labels: its request names them, or it was done and so has a snapshot. Whether a run of release 0.1.0 that
    was cancelled or failed has one, only the store shows.
    """
    found = []
    for record in reversed(records):
        if record.can_be_baseline:
            found.append(BaselineRun(record.run, record.request.labels))
            if record.request.labels or record.outcome is RunState.DONE:
                break
    return tuple(found)


def _log_end(record: RunRecord) -> None:
    message = record.status.message if record.status else ""
    reason = record.launch.reason if record.launch else ""
    log.info(
        "run_ended",
        project=record.request.project_id,
        run=record.run,
        outcome=record.outcome,
        reason=" ".join(filter(None, (message, reason))),
    )


class RunMetrics:
    """Counts the starts and ends of one project's runs, each once, for one term.

    What happened before this leader began was counted by the one before it, or ended while no adapter led: the last board
    shows which.
    """

    def __init__(self, project_id: int) -> None:
        self._project_id = project_id
        self._started: set[str] = set()
        self._ended: set[str] = set()
        self._begun = False

    def begin(self, records: Iterable[RunRecord], before: ProjectView | None) -> None:
        """Note what was counted already; `before`: the project's view as the last leader published it."""
        if self._begun:
            return
        self._begun = True
        was_active = before.active.run if before and before.active else ""
        had_started = before is not None and before.figures.started_at is not None
        leader_metrics.add_project(self._project_id)
        for record in records:
            if record.started_at is not None and (record.run != was_active or had_started):
                self._started.add(record.run)
            if record.outcome is not None and record.run != was_active:
                self._ended.add(record.run)

    def count(self, records: Iterable[RunRecord]) -> None:
        """Count what is new in the records."""
        for record in records:
            started, outcome = record.started_at, record.outcome
            if started is not None and record.run not in self._started:
                self._started.add(record.run)
                leader_metrics.observe_run_started(started - record.request.created_at)
            if outcome is not None and record.run not in self._ended:
                self._ended.add(record.run)
                leader_metrics.observe_run_ended(self._project_id, outcome, _duration(record))


def _duration(record: RunRecord) -> float | None:
    """Return the run's seconds; None if no process started, or the end of the last one is unknown, as after a cancel."""
    started, ended = record.started_at, record.ended_at
    return ended - started if started is not None and ended >= started else None
