"""The projects that are looked after: how they come, are stepped through one by one, and go.

Trouble of one project is no other's: what fails is told on its board and tried again with back-off, from a fresh reading
of the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.leader.discovery import DiscoveryQueue
from services.adapter.leader.reconciler import ProjectReconciler, ReconcilerContext
from services.adapter.state.board import ProjectView
from services.adapter.state.documents import NotLeading
from services.adapter.training.label_reader import Backoff
from services.adapter.training.planner import ProjectReplaced
from services.core.domain import Command, Project
from services.core.errors import FitloopError, LabelStudioNotFound, LabelStudioUnreachable
from services.core.inbox import ChangeNotice
from services.core.telemetry.correlation import bind_ids
from services.core.telemetry.tracebacks import safe_traceback, unexpected_error_sentence

log = structlog.get_logger()
_MAX_REMEMBERED: Final = 1000  # projects of which /setup's words are held in memory
_DELETED: Final = "PROJECT_DELETED"
_STILL_THERE_SECONDS: Final = 60.0


class ProjectSet:
    """All stewards, by Label Studio's project id, and the projects that have none yet."""

    def __init__(self, tools: ReconcilerContext) -> None:
        """Nobody is looked after yet."""
        self.reconcilers: dict[int, ProjectReconciler] = {}
        self._context = tools
        self._discovery = DiscoveryQueue()
        self._backoffs: dict[int, Backoff] = {}
        self._setups: dict[int, ChangeNotice] = {}
        self._deleted: dict[int, float] = {}

    def add(self, project: Project, now: float) -> None:
        """Look after the project from now on."""
        self._start(ProjectReconciler(project, self._context), now)
        self._discovery.mark_connected(project.id)

    def receive(self, hints: Iterable[ChangeNotice], now: float) -> None:
        """What Label Studio has said. Words of /setup are kept until a step has written them down."""
        for hint in hints:
            if _DELETED in hint.actions and len(self._deleted) < _MAX_REMEMBERED:
                self._deleted[hint.project_id] = hint.at
            if hint.seen_url or hint.overrides is not None:
                self._keep_setup(hint)
            steward = self.reconcilers.get(hint.project_id)
            for action in hint.actions:
                if steward:
                    steward.receive(action, min(hint.at, now))
                else:
                    self._discovery.add(hint.project_id)

    def discover(self, commands: Mapping[int, list[Command]], now: float) -> None:
        """Get to know a few of the projects that were told of."""
        self._discovery.add_commanded(commands.keys() - self.reconcilers.keys(), now)
        for project_id in self._discovery.due(now):
            if not self._discover_one(project_id, commands.get(project_id, []), now):
                break

    def reconcile(self, steward: ProjectReconciler, commands: list[Command], now: float) -> None:
        """One step of one project, if none of its troubles forbids it. Raises NotLeading."""
        with bind_ids(project=steward.project.id):
            self._reconcile(steward, commands, now)

    def _reconcile(self, steward: ProjectReconciler, commands: list[Command], now: float) -> None:
        project_id = steward.project.id
        trouble = self._backoffs.setdefault(project_id, Backoff(first=0.5))
        if now < trouble.until:
            return
        said = self._setups.get(project_id)
        if said:
            steward.remember_setup(said.overrides, said.seen_url)
        try:
            steward.reconcile(commands, now)
            trouble.worked()
            steward.problems["store"] = ""
            self._setups.pop(project_id, None)
            self._clear_deletion(steward)
        except NotLeading:
            raise
        except ProjectReplaced as error:
            self._drop_commands(commands)  # they were meant for the project that had the number before
            self._remove(project_id, str(error))
            self._discovery.add(project_id)
        except LabelStudioNotFound as error:
            self._remove(project_id, str(error))
            self._discovery.mark_gone(project_id, now)
        except FitloopError as error:
            self._restart_later(steward, str(error), now)
        except Exception as error:  # noqa: BLE001  # a slip of ours about one project must not keep the others waiting
            log.error("reconcile_error", project=project_id, frames=safe_traceback(error))
            self._restart_later(steward, unexpected_error_sentence(error), now)

    def is_rolling_out(self) -> bool:
        """Whether a version is on its way to those who answer, unhindered."""
        return any(steward.versions.is_rolling_out() for steward in self.reconcilers.values())

    def is_busy(self, now: float) -> bool:
        """Whether anything moves, or is to be tried again."""
        return any(steward.is_busy(now) for steward in self.reconcilers.values()) or any(
            item.until > now for item in self._backoffs.values()
        )

    def due_times(self) -> list[float]:
        """When looks are due, and projects that were told of."""
        return [
            steward.planner.due_at() for steward in self.reconcilers.values()
        ] + self._discovery.due_times()

    def _keep_setup(self, hint: ChangeNotice) -> None:
        if len(self._setups) >= _MAX_REMEMBERED:
            self._setups.clear()
        known = self._setups.get(hint.project_id)
        self._setups[hint.project_id] = known.merge(hint) if known else hint

    def _discover_one(self, project_id: int, commands: list[Command], now: float) -> bool:
        """Get to know a project that Label Studio has told of; whether Label Studio answers."""
        try:
            project, _ = self._context.label_studio.project(project_id)
            self._context.registry.write_project(project)
            self._context.promotions.table.drop_project(project_id, but=project.key)
            self.add(project, now)
            log.info("project_connected", project=project_id, key=project.key)
        except LabelStudioNotFound as error:
            self._discovery.failed(project_id, now, missing=True)
            if self._discovery.is_missing(project_id):
                if not self._discovery.was_connected(project_id):
                    self._drop_commands(commands)
                self._remove(project_id, str(error))
        except NotLeading:
            raise
        except FitloopError as error:
            self._discovery_failed(project_id, str(error), now)
            return not isinstance(error, LabelStudioUnreachable)
        except Exception as error:  # noqa: BLE001  # a slip of ours about one project must not keep the others waiting
            log.error("project_unreadable", project=project_id, frames=safe_traceback(error))
            self._discovery_failed(project_id, unexpected_error_sentence(error), now)
        return True

    def _discovery_failed(self, project_id: int, problem: str, now: float) -> None:
        delay = self._discovery.failed(project_id, now)
        nameless = Project(f"{project_id}-unknown", project_id, f"Project {project_id}", "", "", "")
        self._context.board.put(ProjectView(nameless, problem=problem))
        log.warning("project_unreadable", project=project_id, reason=problem, retry_seconds=delay)

    def _restart_later(self, steward: ProjectReconciler, problem: str, now: float) -> None:
        """What was half written may be there all the same: only the store knows."""
        delay = self._backoffs[steward.project.id].failed(now)
        log.error("reconcile_failed", project=steward.project.id, reason=problem, retry_seconds=delay)
        self._context.run_queue.dequeue(steward.project.id)
        self._start(steward.restarted(problem), now)

    def _start(self, steward: ProjectReconciler, now: float) -> None:
        """Look after the project; where it cannot be read, that is shown, and the next step tries again."""
        self.reconcilers[steward.project.id] = steward
        try:
            steward.start(now)
        except FitloopError as error:
            log.error("project_unreadable", project=steward.project.id, reason=str(error))
            steward.report_unreadable(str(error))
        except Exception as error:  # noqa: BLE001  # a slip of ours about one project must not keep the others waiting
            log.error(
                "project_unreadable",
                project=steward.project.id,
                frames=safe_traceback(error),
            )
            steward.report_unreadable(unexpected_error_sentence(error))

    def _remove(self, project_id: int, reason: str) -> None:
        """Label Studio no longer has it, or hides it. What was learnt and asked for stays in the store.

        It also serves no more where Label Studio said itself that it deleted it: a token that merely may not see it
        any more gets the same answer.
        """
        log.warning("project_removed", project=project_id, reason=reason)
        self.reconcilers.pop(project_id, None)
        self._backoffs.pop(project_id, None)
        self._discovery.remove(project_id)
        self._context.run_queue.remove(project_id)
        self._context.board.remove(project_id)
        metrics.leave(project_id)
        if project_id in self._deleted:
            self._context.promotions.table.drop_project(project_id)
            del self._deleted[project_id]

    def _clear_deletion(self, steward: ProjectReconciler) -> None:
        """Anybody may send an event: a project that Label Studio still has a minute later was not deleted."""
        told = self._deleted.get(steward.project.id)
        reading = steward.planner.reading
        if told is not None and reading and reading.read_at > told + _STILL_THERE_SECONDS:
            del self._deleted[steward.project.id]

    def _drop_commands(self, commands: list[Command]) -> None:
        for command in commands:
            self._context.inbox.delete_command(command.id)
