"""A request without an outcome runs: new ones, those that a start found cut off, those whose process was lost.

The launcher is told at every step, which costs it nothing while the run is active. What it cannot do is said and tried
again with back-off; it holds up nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from services.adapter.ports import Launcher
from services.adapter.training.history import RunHistory, RunRecord
from services.adapter.training.watch import Backoff
from services.core.errors import FitloopError, StoreError

log = structlog.get_logger()


@dataclass(slots=True)
class RunStarter:
    """Of one project's runs."""

    launcher: Launcher
    history: RunHistory
    problem: str = ""
    """Why the active run cannot be launched; "" where it can."""
    _backoff: Backoff = field(default_factory=Backoff)
    _logged: set[str] = field(default_factory=set)

    def ensure_running(self, now: float) -> None:
        """Have the active run run. Raises StoreError."""
        active = self.history.active
        if active is None:
            self.problem = ""
        elif now >= self._backoff.until:
            self._launch(active, now)

    def _launch(self, active: RunRecord, now: float) -> None:
        try:
            self.launcher.launch(active.request)
        except StoreError:
            raise
        except FitloopError as error:
            self.problem = f"Run {active.run} cannot be launched: {error}"
            delay = self._backoff.failed(now)
            project = active.request.project_id
            log.error(
                "a run cannot be launched",
                project=project,
                run=active.run,
                reason=str(error),
                retry_seconds=delay,
            )
            return
        self.problem = ""
        self._backoff.worked()
        if active.run not in self._logged:
            self._logged.add(active.run)
            log.info(
                "a run was launched",
                project=active.request.project_id,
                run=active.run,
                reason=active.request.cause,
            )
