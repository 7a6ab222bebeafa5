"""Whose turn it is to train: at most so many runs go on at once over all projects, and who waits longest is next.

Only the supervisor's thread may call this. Nothing is kept: after a restart the runs that go on are told again, and who
waits asks again. A project that cannot ask at the moment gives up its place, so that nobody waits for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import structlog

from services.adapter.ports import Launcher
from services.adapter.training.label_reader import Backoff
from services.adapter.training.runs import RunHistory, RunRecord
from services.core.errors import FitloopError, StoreError

log = structlog.get_logger()


@dataclass(slots=True)
class RunQueue:
    """The runs that go on and the projects that wait, by project id."""

    max_active: int
    _running: dict[int, str] = field(default_factory=dict)
    _waiting: dict[int, float] = field(default_factory=dict)

    def set_running(self, project_id: int, run: str | None) -> None:
        """The project's run that goes on, if one does."""
        if run:
            self._running[project_id] = run
            self._waiting.pop(project_id, None)
        else:
            self._running.pop(project_id, None)

    def enqueue(self, project_id: int, now: float) -> str:
        """Get in line: "" where a run may begin now, else a sentence about what the project waits for."""
        self._waiting.setdefault(project_id, now)
        if self.is_next(project_id):
            return ""
        if not self._is_free():
            going = " and ".join(f"run {run}" for run in self._running.values())
            return f"waiting for {going} of another project"
        return "waiting for the projects that have waited longer"

    def is_next(self, project_id: int) -> bool:
        """Whether the project is in line and nothing is before it."""
        in_line = sorted(self._waiting, key=lambda known: (self._waiting[known], known))
        free = self.max_active - len(self._running)
        return project_id in in_line[: max(0, free)]

    def dequeue(self, project_id: int) -> None:
        """It does not want to train, or cannot say."""
        self._waiting.pop(project_id, None)

    def remove(self, project_id: int) -> None:
        """The project is gone."""
        self.dequeue(project_id)
        self.set_running(project_id, None)

    def _is_free(self) -> bool:
        return len(self._running) < self.max_active


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
                "run_launch_failed",
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
                "run_launched",
                project=active.request.project_id,
                run=active.run,
                reason=active.request.cause,
            )
