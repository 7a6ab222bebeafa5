"""Checks that Label Studio still calls us for a project: it sends no event when a backend is disconnected.

A project none of whose backends has our URL for a day is trained no more, until one has it again or a person requests a run.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import structlog

from services.adapter.leader.context import ReconcilerContext
from services.adapter.leader.workers import Finished
from services.adapter.serving.label_studio import find_own_backend
from services.adapter.state.project_state import ProjectStateFile
from services.core.errors import LabelStudioUnreachable
from services.core.redaction import safe_reason

log = structlog.get_logger()
GONE_SECONDS: Final = 86_400.0
"""After which a project or backend that Label Studio does not have counts as deleted."""
_CHECK_SECONDS: Final = 3600.0
_SPREAD: Final = 613
"""Spreads the checks of projects with consecutive ids over the hour."""


class ConnectionCheck:
    """The hourly checks of one project. Only the leader's thread may call it."""

    def __init__(self, project_id: int, state_file: ProjectStateFile, context: ReconcilerContext) -> None:
        self.due_at = float("inf")
        self._project_id = project_id
        self._state_file = state_file
        self._context = context
        self._finished: Finished[bool] | None = None

    def begin(self, now: float) -> None:
        """Check within the hour."""
        self.due_at = now + 60.0 + self._project_id * _SPREAD % _CHECK_SECONDS

    def is_disconnected(self, now: float) -> bool:
        """Return whether no backend has had our URL for a day."""
        since = self._state_file.state.disconnected_since
        return since is not None and now - since >= GONE_SECONDS

    def step(self, seen_url: str, now: float) -> None:
        """Note what a worker has found, and give it the next check if one is due. Raises StoreError."""
        finished, self._finished = self._finished, None
        if finished and finished.error is None:
            since = self._state_file.state.disconnected_since
            self._state_file.update(disconnected_since=None if finished.result() else since or now)
        elif finished and finished.error:
            log.warning("backends_not_read", project=self._project_id, reason=safe_reason(finished.error))
        if now < self.due_at:
            return
        self.due_at = now + _CHECK_SECONDS
        workers, key = self._context.workers, ("backends", self._project_id)
        if seen_url and not workers.is_busy(key) and self._context.breaker.allow(now):
            workers.submit(key, partial(self._is_connected, seen_url), self._done)

    def _is_connected(self, seen_url: str) -> bool:
        """Return whether one of the backends has our URL. Raises LabelStudioError."""
        backends = self._context.backends.backends(self._project_id)
        secret_path = self._context.settings.auth.secret_path
        return find_own_backend(backends, seen_url, secret_path) is not None

    def _done(self, finished: Finished[bool]) -> None:
        if isinstance(finished.error, LabelStudioUnreachable):
            self._context.breaker.failed(self._context.clock())
        else:
            self._context.breaker.succeeded()
        self._finished = finished
        self._context.queue.add(self._project_id, self._context.clock())
