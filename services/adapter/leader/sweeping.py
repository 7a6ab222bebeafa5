"""Has a worker delete what has expired of one project: after its runs have ended, and once a day."""

from __future__ import annotations

from collections.abc import Callable
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
_SOON_SECONDS: Final = 600
_VERSIONS_PER_STEP: Final = 5
_SPREAD: Final = 7919
"""Spreads the daily sweeps of projects with consecutive ids over the day."""


class Sweeping:
    """The sweeps of one project, one at a time. Only the leader's thread may call it."""

    def __init__(
        self, history: RunHistory, context: ReconcilerContext, target: Callable[[], str | None]
    ) -> None:
        """`target` returns the version that is being rolled out, deferred ones included."""
        self.due_at = 0.0
        self.stored_bytes: int | None = None
        """Of the project, after the last sweep."""
        self._history = history
        self._context = context
        self._target = target
        self._finished: Finished[Swept] | None = None
        self._expired: tuple[str, ...] = ()
        """Versions that the last sweep has found, and that are not decided yet."""

    def begin(self, now: float) -> None:
        """Sweep within ten minutes if a run has ended that no sweep has seen, as after a takeover of an earlier release; else within a day."""
        within = _SOON_SECONDS if self._history.has_unswept else _DAY_SECONDS
        self.due_at = now + _RETRY_SECONDS + self._history.project.id * _SPREAD % within

    def step(self, project: Project, base_models: frozenset[str], now: float) -> None:
        """Forget what a worker has deleted; give it a sweep, if one is due. Raises StoreError.

        `base_models`: of the active run and the next one, whose features stay.
        """
        finished, self._finished = self._finished, None
        if finished and finished.error is None:
            swept = finished.result()
            self.stored_bytes, self._expired = swept.stored_bytes, swept.expired_versions
            self._history.forget(swept)
        elif finished and finished.error:
            self._failed(finished.error, now)
        if self._expired:
            self._delete_expired(project)
        elif now >= self.due_at:
            self._sweep(project, base_models, now)

    def _sweep(self, project: Project, base_models: frozenset[str], now: float) -> None:
        history = self._history
        work = partial(
            self._context.retention.sweep,
            project,
            self._kept(project),
            tuple(history.records),
            frozenset(run.run for run in history.baselines),
            history.state_file.state.swept_run,
            base_models,
            now,
        )
        submitted = self._context.workers.submit(("sweep", project.id), work, self._swept)
        self.due_at = now + (_DAY_SECONDS if submitted else _RETRY_SECONDS)

    def _delete_expired(self, project: Project) -> None:
        """Delete the manifests of a few versions here, where no promotion can come in between, and the rest in a worker."""
        kept, few = self._kept(project), self._expired[:_VERSIONS_PER_STEP]
        self._expired = self._expired[_VERSIONS_PER_STEP:]
        versions = [version for version in few if version not in kept]
        for version in versions:
            self._context.registry.unpublish(project.key, version)
        work = partial(self._context.retention.delete_versions, project, versions)
        self._context.workers.submit(("sweep", project.id), work, self._deleted)

    def _kept(self, project: Project) -> frozenset[str]:
        """Return the versions that are served, were served last, or are being rolled out. Raises StoreError."""
        target = self._target()
        served = self._context.promotions.table.served(project.key)
        return kept_versions(served) | ({target} if target else set())

    def _swept(self, finished: Finished[Swept]) -> None:
        self._finished = finished
        self._context.queue.add(self._history.project.id, self._context.clock())

    def _deleted(self, finished: Finished[int]) -> None:
        if finished.error is None:
            self.stored_bytes = finished.result()
        else:
            self._failed(finished.error, self._context.clock())
        if self._expired:
            self._context.queue.add(self._history.project.id, self._context.clock())

    def _failed(self, error: Exception, now: float) -> None:
        log.warning("sweep_failed", project=self._history.project.id, reason=safe_reason(error))
        self.due_at = now + _RETRY_SECONDS
