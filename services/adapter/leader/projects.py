"""The connected projects: how they are loaded, reconciled one by one, and removed.

A problem of one project does not affect the others: it is shown on the project's board and retried with back-off, from a
fresh reading of the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.leader.context import ReconcilerContext
from services.adapter.leader.discovery import Discovery
from services.adapter.leader.loading import LoadedProject, ProjectLoader, id_of
from services.adapter.leader.missing import MissingProjects, ReportedDeletions, is_gone
from services.adapter.leader.older_runs import OlderHistory, OlderRuns
from services.adapter.leader.reconciler import ProjectReconciler
from services.adapter.leader.workers import Finished
from services.adapter.state.board import ProjectView
from services.adapter.state.documents import NotLeading
from services.core.domain import Command, Project
from services.core.errors import FitloopError, LabelStudioNotFound, NotFound, ProjectReplaced, StoreError
from services.core.notices import ChangeNotice
from services.core.retry import Backoff
from services.core.telemetry.correlation import bind_ids
from services.core.telemetry.logs import safe_traceback, unexpected_error_message

log = structlog.get_logger()
_MAX_REMEMBERED: Final = 1000
"""Limit of projects whose notices are kept in memory."""
_MIN_SECONDS: Final = 0.05
"""Between two steps of a project, unless a worker has finished something for it."""


class ProjectSet:
    """The reconcilers by Label Studio's project id, and the projects that have none yet."""

    def __init__(self, context: ReconcilerContext) -> None:
        self.reconcilers: dict[int, ProjectReconciler] = {}
        self.loader = ProjectLoader(
            context.registry.store,
            context.workers,
            context.promotions.table.served,
            self._listed,
            self._loaded,
            OlderRuns(context.registry.store, context.workers, self._add_older),
        )
        self._context = context
        self._discovery = Discovery(
            context.label_studio, context.workers, context.breaker, context.clock, self
        )
        self._fresh: dict[int, LoadedProject] = {}
        """What was read of projects whose reconciler is to be replaced."""
        self._backoffs: dict[int, Backoff] = {}
        self._notices: dict[int, ChangeNotice] = {}
        """Events and /setup data that no step has handled yet."""
        self._deletions = ReportedDeletions()
        self._missing = MissingProjects(context.promotions.table)
        self._commands: Mapping[int, list[Command]] = {}

    def receive(self, notices: Iterable[ChangeNotice], now: float) -> None:
        """Keep change notices until a step has handled them; look up projects that are not connected."""
        for notice in notices:
            self._deletions.note(notice)
            if len(self._notices) >= _MAX_REMEMBERED:
                self._notices.clear()
            known = self._notices.get(notice.project_id)
            self._notices[notice.project_id] = known.merge(notice) if known else notice
            if notice.project_id in self.reconcilers:
                self._context.queue.add(notice.project_id, now)
            elif notice.actions and not self.loader.is_pending(notice.project_id):
                self._discovery.add(notice.project_id)

    def step(self, commands: Mapping[int, list[Command]], now: float) -> None:
        """Have workers read projects of the store that are due, and look up a few that are not connected."""
        self._commands = commands
        self.loader.step(commands, now)
        wanted = [
            project_id
            for project_id in commands.keys() - self.reconcilers.keys()
            if not self.loader.is_pending(project_id)
        ]
        self._discovery.step(wanted, now)

    def reconcile(self, project_id: int, commands: list[Command] | None, now: float) -> bool:
        """Take one step with a project that is due, and queue the next; return whether it could be taken. Raises NotLeading."""
        with bind_ids(project=project_id):
            if fresh := self._fresh.pop(project_id, None):
                self._guard(project_id, fresh.project.key, lambda: self._begin(fresh, now), now)
            reconciler = self.reconcilers.get(project_id)
            if reconciler is None or self.loader.is_pending(project_id):
                return False
            key = reconciler.project.key
            self._guard(project_id, key, lambda: self._step(reconciler, commands, now), now)
            if project_id in self.reconcilers and not self.loader.is_pending(project_id):
                self._context.queue.add(project_id, max(reconciler.due_at(now), now + _MIN_SECONDS))
            return True

    @property
    def is_complete(self) -> bool:
        """Whether each project in the store is reconciled, or shown with why it is not."""
        return self.loader.is_complete and not self._fresh

    def next_at(self) -> float:
        """Return when the next project is to be read or looked up; infinity if none is."""
        return min(self.loader.next_at(), self._discovery.next_at())

    def connect(self, project: Project, now: float) -> None:
        """Reconcile a project that Label Studio has. Raises StoreError."""
        self._context.registry.write_project(project)
        self._context.promotions.table.drop_project(project.id, but=project.key)
        self._missing.found(project.id)
        self.loader.add(project.key, now)
        log.info("project_connected", project=project.id, key=project.key)

    def missing(self, project_id: int, reason: str, *, was_connected: bool) -> None:
        """Forget a project that Label Studio does not have."""
        if not was_connected:
            self._drop_commands(project_id)
        self._remove(project_id, reason)
        readings = [one.planner.reading for one in self.reconcilers.values()]
        read_at = [reading.read_at for reading in readings if reading]
        self._missing.drop_if_gone(project_id, read_at, self._context.clock())

    def unreadable(self, project_id: int, problem: str) -> None:
        """Show why a project could not be looked up."""
        nameless = Project(f"{project_id}-unknown", project_id, f"Project {project_id}", "", "", "")
        self._context.board.put(ProjectView(nameless, problem=problem))

    def _listed(self, project_ids: Collection[int]) -> None:
        for project_id in self._context.board.views.keys() - project_ids:
            self._context.board.remove(project_id)
            metrics.forget_project(project_id)
        for project_id in self._notices.keys() - project_ids:
            self._discovery.add(project_id)

    def _loaded(self, key: str, finished: Finished[LoadedProject]) -> None:
        """Keep what was read for the project's next step, or retry later."""
        project_id, now = id_of(key), self._context.clock()
        if isinstance(finished.error, NotFound):
            log.error("project_not_loaded", project=project_id, reason=str(finished.error))
            self._discovery.add(project_id)
        elif finished.error is None and is_gone(finished.result().state, now):
            state_file = self._context.state_file(key)
            state_file.state = finished.result().state
            self._missing.note(project_id, state_file, now)
            self._remove(project_id, "Label Studio has not had it for a day")
            self._discovery.mark_removed(project_id, now)
        elif finished.error is not None:
            self._guard(project_id, key, finished.result, now)
        else:
            self._fresh[project_id] = finished.result()
            self._context.queue.add(project_id, now)

    def _add_older(self, found: OlderHistory) -> None:
        project_id, key = id_of(found.project_key), found.project_key
        reconciler = self.reconcilers.get(project_id)
        if reconciler and reconciler.project.key == key:
            self._guard(
                project_id,
                key,
                lambda: found.add_to(reconciler.history, reconciler.versions),
                self._context.clock(),
            )

    def _begin(self, loaded: LoadedProject, now: float) -> None:
        project = loaded.project
        before = self.reconcilers.get(project.id)
        reconciler = ProjectReconciler(project, self._context)
        self.reconcilers[project.id] = reconciler
        reconciler.begin(loaded, before if before and before.project.key == project.key else None, now)

    def _step(self, reconciler: ProjectReconciler, commands: list[Command] | None, now: float) -> None:
        project_id = reconciler.project.id
        if notice := self._notices.get(project_id):
            reconciler.receive(notice, now)
        reconciler.problems["store"] = ""
        reconciler.reconcile(commands, now)
        self._backoffs.pop(project_id, None)
        self._notices.pop(project_id, None)
        if reading := reconciler.planner.reading:
            self._deletions.found(project_id, reading.read_at)

    def _guard(self, project_id: int, key: str, work: Callable[[], object], now: float) -> None:
        """Do what may fail for one project alone. Raises NotLeading."""
        try:
            work()
        except NotLeading:
            raise
        except ProjectReplaced as error:
            self._drop_commands(project_id)  # they were meant for the project that had this id before
            self._remove(project_id, str(error))
            self._discovery.add(project_id)
        except LabelStudioNotFound as error:
            self._missing.note(project_id, self.reconcilers[project_id].state_file, now)
            self._remove(project_id, str(error))
            self._discovery.mark_removed(project_id, now)
        except FitloopError as error:
            self._reload_later(project_id, key, str(error), now)
        except Exception as error:  # noqa: BLE001  # a bug that one project triggers must not stop the others
            log.error("reconcile_error", project=project_id, frames=safe_traceback(error))
            self._reload_later(project_id, key, unexpected_error_message(error), now)

    def _reload_later(self, project_id: int, key: str, problem: str, now: float) -> None:
        """Read the store again after an error: a write that failed half-way may still have happened; only the store knows."""
        backoff = self._backoffs.setdefault(project_id, Backoff(first=0.5))
        delay = backoff.failed(now)
        log.error("reconcile_failed", project=project_id, reason=problem, retry_seconds=delay)
        self._context.run_queue.dequeue(project_id)
        self.loader.add(key, backoff.until)
        self._report_unreadable(project_id, key, problem)

    def _report_unreadable(self, project_id: int, key: str, problem: str) -> None:
        """Show why the project is not reconciled, with the version served last, which still predicts."""
        reconciler, known = self.reconcilers.get(project_id), self._context.board.view(project_id)
        if reconciler:
            reconciler.problems["store"] = problem
        if known is None or known.project.key != key:
            known = ProjectView(Project(key, project_id, f"Project {project_id}", "", "", ""))
            if reconciler:
                known = ProjectView(reconciler.project, reconciler.space)
            with contextlib.suppress(StoreError):  # then nothing is known of it
                known = replace(known, served=self._context.promotions.table.served(key))
        self._context.board.put(replace(known, problem=problem))

    def _remove(self, project_id: int, reason: str) -> None:
        """Remove a project that Label Studio no longer has, or hides. Its versions and commands stay in the store.

        It is no longer served either if its deletion was reported: a token that merely lost access to it gets the same answer.
        """
        log.warning("project_removed", project=project_id, reason=reason)
        for known in (self.reconcilers, self._backoffs, self._notices, self._fresh):
            known.pop(project_id, None)
        self.loader.remove(project_id)
        self._context.queue.remove(project_id)
        self._discovery.remove(project_id)
        self._context.run_queue.remove(project_id)
        self._context.board.remove(project_id)
        metrics.forget_project(project_id)
        if self._deletions.take(project_id):
            self._context.promotions.table.drop_project(project_id)

    def _drop_commands(self, project_id: int) -> None:
        for command in self._commands.get(project_id, []):
            self._context.inbox.delete_command(command.id)
