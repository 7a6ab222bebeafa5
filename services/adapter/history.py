"""The runs of one project as the supervisor sees them: request, processes, status, the labels read.

Read once from the store, then kept: the leader alone makes runs, and an ended run no longer changes. Only the runs that
go on are read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

from services.adapter import trigger
from services.adapter.ports import Launcher
from services.core.domain import Launch, Project, RunRequest, RunState, RunStatus, Snapshot
from services.core.runs import Runs

_REMEMBERED: Final = 50
"""Ended runs of a project that decisions look back on."""
_BASELINES: Final = frozenset({RunState.DONE, RunState.CANCELLED})


@dataclass(frozen=True, slots=True)
class Record:
    """One run."""

    request: RunRequest
    launch: Launch | None = None
    status: RunStatus | None = None
    snapshot: Snapshot | None = None
    stale: bool = False

    @property
    def run(self) -> str:
        """Its name."""
        return self.request.run

    @property
    def outcome(self) -> RunState | None:
        """DONE, FAILED or CANCELLED; None while it goes on."""
        return self.launch.outcome if self.launch else None

    @property
    def exit_code(self) -> int | None:
        """Of its last process."""
        return self.launch.attempts[-1].exit_code if self.launch and self.launch.attempts else None

    @property
    def ended_at(self) -> float:
        """When its last process ended."""
        last = self.launch.attempts[-1] if self.launch and self.launch.attempts else None
        return (last.ended_at if last else None) or self.request.created_at

    @property
    def fingerprint(self) -> str:
        """Of what it read; of what was there at launch, where it never came to reading."""
        if self.snapshot is None:
            return self.request.fingerprint
        return trigger.fingerprint(
            self.snapshot.tasks, self.snapshot.label_config_hash, self.request.parameters
        )

    def past(self) -> trigger.Past:
        """For the trigger. The run must have ended."""
        outcome = self.outcome or RunState.FAILED
        return trigger.Past(self.run, self.fingerprint, outcome, self.exit_code, self.ended_at, self.stale)


@dataclass(slots=True)
class History:
    """All remembered runs of a project, oldest first."""

    runs: Runs
    launcher: Launcher
    project: Project
    records: list[Record] = field(default_factory=list)
    _past: dict[str, trigger.Past] = field(default_factory=dict)

    def read(self) -> None:
        """From the store, once."""
        requests = [self.runs.request(name) for name in self.runs.names(self.project.id)[-_REMEMBERED:]]
        mine = [request for request in requests if request and request.project_key == self.project.key]
        self.records = [self._now(Record(request)) for request in mine]

    def update(self) -> list[Record]:
        """Read what goes on; the runs that ended since the last time."""
        ended = []
        for place, record in enumerate(self.records):
            if record.outcome is None:
                self.records[place] = self._now(record)
                if self.records[place].outcome is not None:
                    ended.append(self.records[place])
        return ended

    def add(self, request: RunRequest) -> None:
        """A new run."""
        self.records.append(Record(request))

    def mark_stale(self, run: str) -> None:
        """Its version was compared with one that no longer serves."""
        self.records = [
            replace(record, stale=True) if record.run == run else record for record in self.records
        ]
        self._past.pop(run, None)

    def forget(self, run: str) -> None:
        """It was deleted."""
        self.records = [record for record in self.records if record.run != run]

    @property
    def active(self) -> Record | None:
        """The run that goes on."""
        return next((record for record in self.records if record.outcome is None), None)

    @property
    def last(self) -> Record | None:
        """The run that ended last."""
        return next((record for record in reversed(self.records) if record.outcome is not None), None)

    @property
    def baseline(self) -> Record | None:
        """The run whose snapshot is counted from: the last one carried through or cancelled."""
        found = (
            record for record in reversed(self.records) if record.outcome in _BASELINES and record.snapshot
        )
        return next(found, None)

    @property
    def past(self) -> tuple[trigger.Past, ...]:
        """Ended runs for the trigger; each fingerprint is computed once."""
        ended = [record for record in self.records if record.outcome is not None]
        for record in ended:
            if record.run not in self._past:
                self._past[record.run] = record.past()
        return tuple(self._past[record.run] for record in ended)

    def answers(self, command_id: str) -> bool:
        """Whether a run was already made for the command."""
        return any(command_id in record.request.commands for record in self.records)

    def _now(self, record: Record) -> Record:
        launch = self.launcher.observe(record.run)  # before the status: a final one is complete then
        ended = launch is not None and launch.outcome is not None
        snapshot = self.runs.snapshot(record.run) if ended else None
        return replace(record, launch=launch, status=self.runs.status(record.run), snapshot=snapshot)
