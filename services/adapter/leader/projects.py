"""The connected projects: how they are discovered, reconciled one by one, and removed.

A problem of one project does not affect the others: it is shown on the project's board and retried with back-off, from a
fresh reading of the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.leader.discovery import DiscoveryQueue
from services.adapter.leader.reconciler import ProjectReconciler, ReconcilerContext
from services.adapter.leader.workers import Finished
from services.adapter.state.board import ProjectView
from services.adapter.state.documents import NotLeading
from services.adapter.training.planner import ProjectReplaced
from services.core.domain import Command, Counts, Project
from services.core.errors import FitloopError, LabelStudioNotFound, LabelStudioUnreachable, StoreError
from services.core.inbox import ChangeNotice
from services.core.retry import Backoff
from services.core.telemetry.correlation import bind_ids
from services.core.telemetry.logs import safe_traceback, unexpected_error_message

log = structlog.get_logger()
_MAX_REMEMBERED: Final = 1000
"""Limit of projects whose /setup data or deletion is kept in memory."""
_DELETED: Final = "PROJECT_DELETED"
_STILL_THERE_SECONDS: Final = 60.0
_MIN_SECONDS: Final = 0.05
"""Between two steps of a project, unless a worker has finished something for it."""


class ProjectSet:
    """The reconcilers by Label Studio's project id, and the queue of projects that have none yet."""

    def __init__(self, context: ReconcilerContext) -> None:
        self.reconcilers: dict[int, ProjectReconciler] = {}
        self._context = context
        self._discovery = DiscoveryQueue()
        self._backoffs: dict[int, Backoff] = {}
        self._setups: dict[int, ChangeNotice] = {}
        self._deleted: dict[int, float] = {}
        self._commands: Mapping[int, list[Command]] = {}

    def add(self, project: Project, now: float) -> None:
        """Reconcile the project from now on."""
        self._start(ProjectReconciler(project, self._context), now)
        self._discovery.mark_connected(project.id)
        self._context.queue.add(project.id, now)

    def receive(self, notices: Iterable[ChangeNotice], now: float) -> None:
        """Pass change notices to the reconcilers. /setup data is kept until a step has stored it."""
        for notice in notices:
            if _DELETED in notice.actions and len(self._deleted) < _MAX_REMEMBERED:
                self._deleted[notice.project_id] = notice.at
            if notice.seen_url or notice.overrides is not None:
                self._keep_setup(notice)
            reconciler = self.reconcilers.get(notice.project_id)
            if reconciler:
                self._context.queue.add(notice.project_id, now)
            for action in notice.actions:
                if reconciler:
                    reconciler.receive(action, min(notice.at, now))
                else:
                    self._discovery.add(notice.project_id)

    def discover(self, commands: Mapping[int, list[Command]], now: float) -> None:
        """Look up a few of the projects that are not connected yet."""
        self._commands = commands
        self._discovery.add_commanded(commands.keys() - self.reconcilers.keys(), now)
        for project_id in self._discovery.due(now):
            key = ("discover", project_id)
            if not self._context.workers.is_busy(key) and self._context.breaker.allow(now):
                work = partial(self._context.label_studio.project, project_id)
                self._context.workers.submit(key, work, partial(self._discovered, project_id, now))

    def reconcile(self, project_id: int, commands: list[Command] | None, now: float) -> None:
        """Take one step with a project that is due, unless it is backing off, and queue the next. Raises NotLeading."""
        reconciler = self.reconcilers.get(project_id)
        if reconciler is None:
            return
        with bind_ids(project=project_id):
            backoff = self._backoffs.setdefault(project_id, Backoff(first=0.5))
            if now >= backoff.until:
                self._reconcile(reconciler, commands, now)
            if (reconciler := self.reconcilers.get(project_id)) is not None:
                due_at = backoff.until if backoff.until > now else reconciler.due_at(now)
                self._context.queue.add(project_id, max(due_at, now + _MIN_SECONDS))

    def next_lookup_at(self) -> float:
        """Return when the next lookup of a project that is not connected is due; infinity if none is."""
        return min(self._discovery.due_times(), default=float("inf"))

    def _reconcile(self, reconciler: ProjectReconciler, commands: list[Command] | None, now: float) -> None:
        project_id = reconciler.project.id
        setup = self._setups.get(project_id)
        if setup:
            reconciler.sync.remember_setup(setup.overrides, setup.seen_url)
        try:
            reconciler.reconcile(commands, now)
            self._backoffs[project_id].succeeded()
            reconciler.problems["store"] = ""
            self._setups.pop(project_id, None)
            self._clear_deletion(reconciler)
        except NotLeading:
            raise
        except ProjectReplaced as error:
            self._drop_commands(
                self._commands.get(project_id, [])
            )  # they were meant for the project that had this id before
            self._remove(project_id, str(error))
            self._discovery.add(project_id)
        except LabelStudioNotFound as error:
            self._remove(project_id, str(error))
            self._discovery.mark_removed(project_id, now)
        except FitloopError as error:
            self._restart_later(reconciler, str(error), now)
        except Exception as error:  # noqa: BLE001  # a bug that one project triggers must not stop the others
            log.error("reconcile_error", project=project_id, frames=safe_traceback(error))
            self._restart_later(reconciler, unexpected_error_message(error), now)

    def _keep_setup(self, notice: ChangeNotice) -> None:
        if len(self._setups) >= _MAX_REMEMBERED:
            self._setups.clear()
        known = self._setups.get(notice.project_id)
        self._setups[notice.project_id] = known.merge(notice) if known else notice

    def _discovered(self, project_id: int, began: float, finished: Finished[tuple[Project, Counts]]) -> None:
        """Connect a project that Label Studio knows, or note why it is not connected."""
        now = max(began, self._context.clock())
        unreachable = isinstance(finished.error, LabelStudioUnreachable)
        if unreachable:
            self._context.breaker.failed(now)
        else:
            self._context.breaker.succeeded()
        if project_id in self.reconcilers or project_id not in self._discovery.waiting:
            return  # another answer was faster
        try:
            self._connect(finished.result()[0], now)
        except LabelStudioNotFound as error:
            self._discovery.failed(project_id, now, missing=True)
            if self._discovery.is_missing(project_id):
                if not self._discovery.was_connected(project_id):
                    self._drop_commands(self._commands.get(project_id, []))
                self._remove(project_id, str(error))
        except NotLeading:
            raise
        except FitloopError as error:
            self._discovery_failed(project_id, str(error), now)
        except Exception as error:  # noqa: BLE001  # a bug that one project triggers must not stop the others
            log.error("project_unreadable", project=project_id, frames=safe_traceback(error))
            self._discovery_failed(project_id, unexpected_error_message(error), now)

    def _connect(self, project: Project, now: float) -> None:
        self._context.registry.write_project(project)
        self._context.promotions.table.drop_project(project.id, but=project.key)
        self.add(project, now)
        log.info("project_connected", project=project.id, key=project.key)

    def _discovery_failed(self, project_id: int, problem: str, now: float) -> None:
        delay = self._discovery.failed(project_id, now)
        nameless = Project(f"{project_id}-unknown", project_id, f"Project {project_id}", "", "", "")
        self._context.board.put(ProjectView(nameless, problem=problem))
        log.warning("project_unreadable", project=project_id, reason=problem, retry_seconds=delay)

    def _restart_later(self, reconciler: ProjectReconciler, problem: str, now: float) -> None:
        """Replace the reconciler after an error: a write that failed half-way may still have happened; only the store knows."""
        delay = self._backoffs[reconciler.project.id].failed(now)
        log.error("reconcile_failed", project=reconciler.project.id, reason=problem, retry_seconds=delay)
        self._context.run_queue.dequeue(reconciler.project.id)
        self._start(reconciler.restarted(problem), now)

    def _start(self, reconciler: ProjectReconciler, now: float) -> None:
        """Start the reconciler; if its project cannot be read, show that, and let the next step retry."""
        project_id = reconciler.project.id
        self.reconcilers[project_id] = reconciler
        try:
            reconciler.start(now)
        except FitloopError as error:
            log.error("project_unreadable", project=project_id, reason=str(error))
            self._report_unreadable(reconciler, str(error))
        except Exception as error:  # noqa: BLE001  # a bug that one project triggers must not stop the others
            log.error("project_unreadable", project=project_id, frames=safe_traceback(error))
            self._report_unreadable(reconciler, unexpected_error_message(error))

    def _report_unreadable(self, reconciler: ProjectReconciler, problem: str) -> None:
        """Show why the project is not reconciled, with the version served last, which still predicts."""
        reconciler.problems["store"] = problem
        project = reconciler.project
        known = self._context.board.view(project.id)
        if known is None or known.project.key != project.key:
            known = ProjectView(project, reconciler.space)
            with contextlib.suppress(StoreError):  # then nothing is known of it
                known = replace(known, served=self._context.promotions.served(project.key))
        self._context.board.put(replace(known, problem=problem))

    def _remove(self, project_id: int, reason: str) -> None:
        """Remove a project that Label Studio no longer has, or hides. Its versions and commands stay in the store.

        It is no longer served either if Label Studio itself reported its deletion: a token that merely lost access to the
        project gets the same answer.
        """
        log.warning("project_removed", project=project_id, reason=reason)
        self.reconcilers.pop(project_id, None)
        self._backoffs.pop(project_id, None)
        self._discovery.remove(project_id)
        self._context.run_queue.remove(project_id)
        self._context.board.remove(project_id)
        metrics.forget_project(project_id)
        if project_id in self._deleted:
            self._context.promotions.table.drop_project(project_id)
            del self._deleted[project_id]

    def _clear_deletion(self, reconciler: ProjectReconciler) -> None:
        """Ignore a reported deletion if Label Studio still has the project a minute later: events are not authenticated."""
        deleted_at = self._deleted.get(reconciler.project.id)
        reading = reconciler.planner.reading
        if deleted_at is not None and reading and reading.read_at > deleted_at + _STILL_THERE_SECONDS:
            del self._deleted[reconciler.project.id]

    def _drop_commands(self, commands: list[Command]) -> None:
        for command in commands:
            self._context.inbox.delete_command(command.id)
