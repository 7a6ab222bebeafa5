"""The runs of one project as the controller sees them: request, processes, status, the labels read.

Kept in state.json: only the leader makes runs, and an ended run no longer changes. Only active runs are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Final

import structlog

from services.adapter.ports import Launcher
from services.adapter.state.project_state import EncoderReferences, ProjectStateFile, RunRecord
from services.adapter.training import trigger
from services.adapter.training.baseline import BaselineLabels, BaselineRun
from services.core.domain import Project, RunRequest, RunState
from services.core.runs import Runs, run_number

log = structlog.get_logger()
MAX_REMEMBERED: Final = 50
"""The runs of a project that decisions consider."""
_MIN_DONE: Final = 2
"""Of the runs of an earlier release, how many that were done are read before any decision: the trigger compares the last two."""
_MAX_VERSIONS: Final = 20
"""Names of versions that a view lists."""


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep has done."""

    deleted_runs: frozenset[str]
    last_run: int
    """The highest number of an ended run that it has seen."""
    stored_bytes: int
    """Of the project, afterwards."""
    expired_versions: tuple[str, ...] = ()
    """Versions that may be deleted, oldest first, if they are still not served."""
    encoders: EncoderReferences | None = None
    """Which encoders the versions name, these included."""


@dataclass(slots=True)
class RunHistory:
    """The remembered runs of a project, oldest first."""

    runs: Runs
    launcher: Launcher
    project: Project
    state_file: ProjectStateFile
    records: list[RunRecord] = field(default_factory=list)
    _ended: dict[str, trigger.EndedRun] = field(default_factory=dict)
    _last_run: int = 0
    _active: int | None = None
    """Index of the active run."""

    def begin(self, records: Iterable[RunRecord], last_run: int) -> None:
        """Continue from these runs; `last_run` is the highest number of any. They are saved with the outcomes of their versions."""
        self.records = list(records)
        self._last_run = last_run
        self._find_active()

    def save(self, **changes: Any) -> None:
        """Write the runs, and other changes, into state.json if it has changed. Raises StoreError."""
        baselines = {baseline.run for baseline in self.baselines}
        runs = tuple(
            record.for_state(is_baseline=record.run in baselines) for record in self.records[-MAX_REMEMBERED:]
        )
        self._last_run = max([self._last_run, *(run_number(run.run) for run in runs)])
        self.state_file.update(runs=runs, last_run=self._last_run, **changes)

    def next_name(self) -> str:
        """Return a name that no run of the project has had."""
        return f"{self.project.id}-{self._last_run + 1}"

    def update(self) -> list[RunRecord]:
        """Read the active runs again; return those that ended since the last time."""
        ended = []
        while self._active is not None:
            record = self.records[self._active] = self._read(self.records[self._active])
            if record.outcome is None:
                break
            ended.append(record)
            _log_end(record)
            self._find_active()
        if ended:
            self.save()
        return ended

    def add(self, request: RunRequest) -> None:
        """Add a run, which has no request.json yet. Raises StoreError, and then there may be such a run."""
        self.records.append(RunRecord(request))
        self._find_active()
        self.save()

    def add_older(self, records: Iterable[RunRecord]) -> None:
        """Add runs that were read later than the others. They are saved with the outcomes of their versions."""
        known = {record.run: record for record in (*records, *self.records)}
        self.records = sorted(known.values(), key=lambda record: run_number(record.run))
        self._find_active()

    def mark_stale(self, run: str) -> None:
        """Note that the run's version was compared with one that is no longer served."""
        self.records = [
            replace(record, stale=True) if record.run == run else record for record in self.records
        ]
        self._ended.pop(run, None)
        self.save()

    @property
    def has_unswept(self) -> bool:
        """Whether a run has ended that no sweep has seen."""
        last = self.last
        return last is not None and run_number(last.run) > self.state_file.state.swept_run

    def forget(self, swept: Swept) -> None:
        """Forget the runs that a sweep has deleted. Raises StoreError."""
        self.records = [record for record in self.records if record.run not in swept.deleted_runs]
        self._find_active()
        self.save(swept_run=swept.last_run, encoders=swept.encoders)

    @property
    def active(self) -> RunRecord | None:
        return self.records[self._active] if self._active is not None else None

    @property
    def last(self) -> RunRecord | None:
        """The run that ended last."""
        return next((record for record in reversed(self.records) if record.outcome is not None), None)

    def _find_active(self) -> None:
        """Note the active run: it is asked for in each step, and there are up to 50 runs."""
        active = (index for index, record in enumerate(self.records) if record.outcome is None)
        self._active = next(active, None)

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
                self._ended[record.run] = as_ended(record)
        return tuple(self._ended[record.run] for record in ended)

    def has_run_for(self, command_id: str) -> bool:
        """Return whether a run was already requested for the command."""
        return any(command_id in record.request.commands for record in self.records)

    def _read(self, record: RunRecord) -> RunRecord:
        launch = self.launcher.observe(record.run)  # before the status: a final one is complete then
        return replace(record, launch=launch, status=self.runs.status(record.run))


def as_ended(record: RunRecord) -> trigger.EndedRun:
    """Return an ended run for the trigger; one that failed after it had published counts as done."""
    outcome = record.outcome or RunState.FAILED
    if outcome is RunState.FAILED and record.can_be_baseline:
        outcome = RunState.DONE
    return trigger.EndedRun(
        record.run, record.fingerprint, outcome, record.exit_code, record.ended_at, record.stale
    )


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


def read_records(
    runs: Runs, project_key: str, stored: Sequence[RunRecord], names: Sequence[str] | None
) -> tuple[list[RunRecord], tuple[str, ...]]:
    """Return the remembered runs: those of state.json, and those that a leader of an earlier release has added. Changes nothing.

    Of the latter only the newest are read, as many as decisions depend on; the names of the others are returned as well. `names`: of
    all runs in the store, oldest first; an ended run that is not among them was deleted. None: state.json knows all. Raises StoreError.
    """
    known = {record.run: record for record in stored}
    names = list(known) if names is None else names
    there, records, left = set(names), list[RunRecord](), list[str]()
    for run in [*(known.keys() - there), *reversed(names[-MAX_REMEMBERED:])]:
        if run not in known and _are_enough(records):
            left.append(run)
            continue
        record = known.get(run) or read_run(runs, run, project_key)
        if record and (run in there or record.outcome is None):
            records.append(record)
    return sorted(records, key=lambda record: run_number(record.run)), tuple(left)


def _are_enough(newest: Sequence[RunRecord]) -> bool:
    """Return whether these newest runs tell what labels are counted from, how the last ones ended, and what is active."""
    return sum(record.outcome is RunState.DONE for record in newest) >= _MIN_DONE


def read_run(runs: Runs, run: str, project_key: str) -> RunRecord | None:
    """Read one run; None if there is none, or it is another project's. Raises StoreError."""
    request = runs.request(run)
    if request is None or request.project_key != project_key:
        return None
    return RunRecord(request, runs.launch_state(run), runs.status(run))


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


def published_versions(records: Sequence[RunRecord]) -> tuple[str, ...]:
    """Return the versions published last, newest first. `records` are oldest first."""
    statuses = (record.status for record in reversed(records) if record.status)
    names = (found.version for status in statuses for found in reversed(status.published))
    return tuple(islice(names, _MAX_VERSIONS))
