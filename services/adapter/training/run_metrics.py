"""Metrics of one project's runs: each start and each end is counted once, over changes of the leader."""

from __future__ import annotations

from collections.abc import Iterable

from services.adapter.metrics import leader_metrics
from services.adapter.state.board import ProjectView
from services.adapter.state.project_state import RunRecord


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
