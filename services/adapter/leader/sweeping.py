"""Has a worker delete what has expired of one project: after its runs have ended, and once a day."""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog

from services.adapter.leader.context import ReconcilerContext
from services.adapter.leader.workers import Finished
from services.adapter.training.retention import kept_versions
from services.adapter.training.runs import RunHistory, Swept
from services.core.domain import Project
from services.core.redaction import safe_reason

log = structlog.get_logger()
_RETRY_SECONDS: Final = 60.0
_DAY_SECONDS: Final = 86_400
_SPREAD: Final = 7919
"""Spreads the daily sweeps of projects with consecutive ids over the day."""


class Sweeping:
    """The sweeps of one project, one at a time. Only the leader's thread may call it."""

    def __init__(self, history: RunHistory, context: ReconcilerContext) -> None:
        self.due_at = 0.0
        self.stored_bytes: int | None = None
        """Of the project, after the last sweep."""
        self._history = history
        self._context = context
        self._finished: Finished[Swept] | None = None

    def begin(self, now: float) -> None:
        """Sweep soon if a run has ended that no sweep has seen, else within a day."""
        spread = self._history.project.id * _SPREAD % _DAY_SECONDS
        self.due_at = now if self._history.has_unswept else now + _RETRY_SECONDS + spread

    def step(self, project: Project, now: float) -> None:
        """Forget what a worker has deleted; give it a sweep, if one is due. Raises StoreError."""
        finished, self._finished = self._finished, None
        if finished and finished.error is None:
            self.stored_bytes = finished.result().stored_bytes
            self._history.forget(finished.result())
        elif finished and finished.error:
            log.warning("sweep_failed", project=project.id, reason=safe_reason(finished.error))
            self.due_at = now + _RETRY_SECONDS
        if now < self.due_at:
            return
        self.due_at = now + _DAY_SECONDS
        table, history = self._context.promotions.table, self._history
        work = partial(
            self._context.retention.sweep,
            project,
            lambda version: version in kept_versions(table.served(project.key)),
            tuple(history.records),
            frozenset(run.run for run in history.baselines),
            history.state_file.state.swept_run,
            now,
        )
        if not self._context.workers.submit(("sweep", project.id), work, self._done):
            self.due_at = now + _RETRY_SECONDS

    def _done(self, finished: Finished[Swept]) -> None:
        self._finished = finished
        self._context.queue.add(self._history.project.id, self._context.clock())
