"""The runs of one project as they are counted: each start and each end once, by the leader that sees it.

What had happened before this leader began was counted by the one before it, or ended while nobody led: that is told from
the last board.
"""

from __future__ import annotations

from collections.abc import Iterable

from services.adapter.metrics import leader
from services.adapter.state.board import ProjectView
from services.adapter.training.history import RunRecord


class RunMetrics:
    """Of one project, for one term."""

    def __init__(self, project_id: int) -> None:
        """Nothing is counted yet."""
        self._project_id = project_id
        self._started: set[str] = set()
        self._ended: set[str] = set()
        self._begun = False

    def begin(self, records: Iterable[RunRecord], before: ProjectView | None) -> None:
        """What is not to be counted again; `before`: the project as the last leader showed it."""
        if self._begun:
            return
        self._begun = True
        went_on = before.active.run if before and before.active else ""
        had_started = before is not None and before.figures.started_at is not None
        leader.begin(self._project_id)
        for record in records:
            if record.started_at is not None and (record.run != went_on or had_started):
                self._started.add(record.run)
            if record.outcome is not None and record.run != went_on:
                self._ended.add(record.run)

    def count(self, records: Iterable[RunRecord]) -> None:
        """Count what is new."""
        for record in records:
            started, outcome = record.started_at, record.outcome
            if started is not None and record.run not in self._started:
                self._started.add(record.run)
                leader.run_started(started - record.request.created_at)
            if outcome is not None and record.run not in self._ended:
                self._ended.add(record.run)
                leader.run_ended(self._project_id, outcome, _duration(record))


def _duration(record: RunRecord) -> float | None:
    """What it took; None where no process began, or nobody saw the last one end, as where the run was cancelled."""
    started, ended = record.started_at, record.ended_at
    return ended - started if started is not None and ended >= started else None
