"""How runs are requested, queued and started.

At most so many runs have started and not ended at once over all projects, and the longest waiting project is next. Only the controller's thread
may call this. The queue is not stored: after a restart active runs are reported again, and waiting
projects enqueue again. A project that cannot train at the moment leaves the queue, so that no other waits for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

import structlog

from services.adapter.ports import Launcher
from services.adapter.state.project_state import RunRecord
from services.adapter.training.runs import RunHistory
from services.adapter.training.trigger import Launch
from services.core.domain import Command, LabelState, Parameters, RunRequest
from services.core.errors import FitloopError, StoreError
from services.core.retry import Backoff
from services.core.runs import version_stem
from services.core.telemetry import tracing

log = structlog.get_logger()
_MAX_PENDING: Final = 20
"""Runs that wait for resources; beyond it, projects wait in the queue, as if these had started."""


@dataclass(slots=True)
class RunQueue:
    """The active runs and the waiting projects, by project id."""

    max_active: int
    _running: dict[int, str] = field(default_factory=dict)
    _pending: dict[int, str] = field(default_factory=dict)
    """Runs that wait for resources, such as a GPU: they take no other project's turn."""
    _waiting: dict[int, float] = field(default_factory=dict)
    _embedding: dict[int, str] = field(default_factory=dict)
    """Active runs of kind `embed`, the oldest first: they take what training runs leave."""

    def set_running(self, project_id: int, run: str | None, *, waits: bool = False) -> None:
        """Set the project's active run; None: it has none. `waits`: for resources, and has not started yet."""
        self._running.pop(project_id, None)
        self._pending.pop(project_id, None)
        if run:
            (self._pending if waits else self._running)[project_id] = run
            self._waiting.pop(project_id, None)

    def enqueue(self, project_id: int, now: float) -> str:
        """Enqueue the project; return "" if a run may start now, else what it waits for."""
        self._waiting.setdefault(project_id, now)
        if self.is_next(project_id):
            return ""
        if self._free() <= 0:
            active = " and ".join(f"run {run}" for run in (*self._running.values(), *self._pending.values()))
            return f"waiting for {active} of another project"
        return "waiting for projects that have waited longer"

    def is_next(self, project_id: int) -> bool:
        """Return whether the project is enqueued and may start a run now."""
        return project_id in self.startable()

    def startable(self) -> list[int]:
        """Return the enqueued projects that may start a run now, the longest waiting first."""
        free = max(0, self._free())
        return sorted(self._waiting, key=lambda known: (self._waiting[known], known))[:free]

    def set_embedding(self, project_id: int, run: str | None) -> None:
        """Set the project's active run of kind `embed`; None: it has none."""
        if run is None:
            self._embedding.pop(project_id, None)
        else:
            self._embedding.setdefault(project_id, run)

    def has_turn_to_embed(self, project_id: int) -> bool:
        """Return whether the project's run of kind `embed` may start, or go on: no training run waits, and there is a place for it."""
        if self._waiting or self._pending:
            return False
        free = self.max_active - len(self._running)
        others = [known for known in self._embedding if known != project_id]
        place = list(self._embedding).index(project_id) if project_id in self._embedding else len(others)
        return place < free

    def _free(self) -> int:
        return min(self.max_active - len(self._running), _MAX_PENDING - len(self._pending))

    def dequeue(self, project_id: int) -> None:
        """Remove a project that does not want to train, or whose labels cannot be read."""
        self._waiting.pop(project_id, None)

    def remove(self, project_id: int) -> None:
        """Remove a project that Label Studio no longer has."""
        self.dequeue(project_id)
        self.set_running(project_id, None)
        self.set_embedding(project_id, None)


def request_run(
    history: RunHistory,
    launch: Launch,
    parameters: Parameters,
    commands: Sequence[Command],
    labels: LabelState,
    fingerprint: str,
    term: int,
    now: float,
) -> None:
    """Write the request of a new run, which starts it: the leader launches every requested run. Raises StoreError."""
    project = history.project
    request = RunRequest(
        run=history.next_name(),
        project_key=project.key,
        project_id=project.id,
        cause=launch.cause,
        parameters=replace(parameters, model_name=version_stem(project, parameters.model_name)),
        created_at=now,
        commands=launch.commands,
        asked={name: value for command in commands for name, value in command.parameters.items()},
        fingerprint=fingerprint,
        term=term,
        asked_by=tuple(dict.fromkeys(command.asked_by for command in commands if command.asked_by)),
        labels=labels,
    )
    parent = next((command.traceparent for command in commands if command.traceparent), "")
    with tracing.span("request run", {"project": project.id, "run": request.run}, parent=parent):
        request = replace(request, traceparent=tracing.traceparent())
        history.add(request)  # first, so that the next leader knows the run
        history.runs.write(request)
    log.info(
        "run_requested",
        project=project.id,
        run=request.run,
        reason=request.cause,
        commands=launch.commands,
        asked_by=request.asked_by,
    )


class ActiveRun(Protocol):
    """What has an active run, or none."""

    @property
    def active(self) -> RunRecord | None:
        """The run that has not ended."""
        ...


@dataclass(slots=True)
class RunStarter:
    """Starts the requested run of one project, and again after its process was lost.

    The launcher is called at every step, which costs nothing while the run is active. An error is reported and retried with
    back-off; it delays nothing else.
    """

    launcher: Launcher
    history: ActiveRun
    problem: str = ""
    """Why the active run cannot be launched; "" if it can."""
    _backoff: Backoff = field(default_factory=Backoff)
    _logged: set[str] = field(default_factory=set)

    def ensure_running(self, now: float) -> None:
        """Launch the active run unless it is running. Raises StoreError."""
        active = self.history.active
        if active is None:
            self.problem = ""
        elif now >= self._backoff.until:
            self._launch(active.request, now)

    def _launch(self, request: RunRequest, now: float) -> None:
        try:
            self.launcher.launch(request)
        except StoreError:
            raise
        except FitloopError as error:
            self.problem = f"Run {request.run} cannot be launched: {error}"
            delay = self._backoff.failed(now)
            log.error(
                "run_launch_failed",
                project=request.project_id,
                run=request.run,
                reason=str(error),
                retry_seconds=delay,
            )
            return
        self.problem = ""
        self._backoff.succeeded()
        if request.run not in self._logged:
            self._logged.add(request.run)
            log.info("run_launched", project=request.project_id, run=request.run, reason=request.cause)
