"""The supervisor: looks after all projects for as long as this process leads; the next term begins with a new one.

Everything happens in `tick(now)`, in the member's thread, and from what the store holds: a term that ends anywhere is
gone on with by the next leader. Hints are what routes, here and in other adapters, were told; commands are stored before
they are answered. Only this thread writes serving.json, requests of runs, verdicts and the board.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.leader.projects import ProjectSet
from services.adapter.leader.reconciler import ReconcilerContext
from services.adapter.ports import Inference, Launcher, Rollout
from services.adapter.serving.label_studio import RefreshJob
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.refresh import Refresher
from services.adapter.serving.table import ServingTableWriter
from services.adapter.state.board import Board, BoardPublisher
from services.adapter.state.documents import NotLeading
from services.adapter.training.retention import Retention
from services.adapter.training.run_queue import RunQueue
from services.core.domain import Action, Command, Project
from services.core.inbox import ChangeNotice, Inbox
from services.core.labelstudio import LabelStudio
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.store import ObjectStore

log = structlog.get_logger()
_ACTIVE_SECONDS: Final = 0.5
"""Between looks at a run that goes on."""
_ROLLOUT_SECONDS: Final = 0.25
"""Between looks at a version that is on its way: annotators wait for it."""
_IDLE_SECONDS: Final = 5.0
_INBOX_SECONDS: Final = 1.0
"""Between looks at what other adapters have left."""


class Controller:
    """Looks after every project that Label Studio has told of, for one term."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        label_studio: LabelStudio,
        launcher: Launcher,
        inference: Inference,
        rollout: Rollout,
        board: Board,
        collect: Callable[[], list[ChangeNotice]],
        clock: Callable[[], float] = time.time,
        *,
        alone: bool = True,
        is_leading: Callable[[], bool] = lambda: True,
    ) -> None:
        """Nothing is read and no thread runs yet. `store` refuses changes where this process does not lead.

        `collect`: takes what this process's routes have left. `alone`: there are no other adapters to be told of anything.
        `leads`: whether this process leads at this moment, for what no store guards.
        """
        registry, most = Registry(store), settings.serving.refresh_max_tasks
        self.serving_table = ServingTableWriter(registry)
        self.refresher = Refresher(label_studio, inference, settings.auth, most, self._is_current, clock)
        self._context = ReconcilerContext(
            settings=settings,
            registry=registry,
            runs=Runs(store),
            inbox=Inbox(store),
            label_studio=label_studio,
            launcher=launcher,
            promotions=Promotions(self.serving_table, rollout, clock),
            refresher=self.refresher,
            retention=Retention(registry, settings.storage),
            run_queue=RunQueue(settings.trigger.max_active_runs),
            board=board,
        )
        self.projects = ProjectSet(self._context)
        self._collect = collect
        self._clock = clock
        self._is_leading = is_leading
        self._publisher = None if alone else BoardPublisher(store, board)
        self._loaded = False

    def start(self) -> None:
        """The refresher begins; all else happens in ticks."""
        self.refresher.start()

    def resign(self, *, wait: bool) -> None:
        """Do nothing more; `wait`: until the refresher's thread has ended. The board stays as it is."""
        self.refresher.stop(wait=wait)
        self._context.board.is_leader = False

    def tick(self, now: float) -> float:
        """Do all that is due; the seconds until the next tick is. Raises StoreError, NotLeading."""
        if not self._loaded:
            self._load(now)
        self.serving_table.repair(now)
        self.projects.receive(self._collect_notices(), now)
        commands = self._waiting_commands()
        began = self._clock()
        self.projects.discover(commands, now)
        for steward in list(self.projects.reconcilers.values()):
            late = max(0.0, self._clock() - began)  # Label Studio may have let the projects before it wait
            self.projects.reconcile(steward, commands.get(steward.project.id, []), now + late)
            self._publish_board()
        self._context.promotions.rollouts.poll(now)
        self._publish_board()
        return self._seconds_until_due(now)

    def _load(self, now: float) -> None:
        """The state that outlived the last leader. A project that cannot be read is shown so, and tried again."""
        self.serving_table.table()  # raises: without the table, nothing may be said of any project
        newest: dict[int, Project] = {}
        for project in self._context.registry.projects():
            known = newest.get(project.id)
            if known is None or known.created_at < project.created_at:
                newest[project.id] = project
        for project in newest.values():
            self.projects.add(project, now)
        for project_id in self._context.board.views.keys() - newest.keys():
            self._context.board.remove(project_id)
            metrics.leave(project_id)
        self._loaded = True
        self._context.board.is_leader = True
        self._context.board.ready.set()
        log.info("leader_ready", projects=len(newest), term=self.serving_table.term)

    def _collect_notices(self) -> list[ChangeNotice]:
        return [*([] if self._publisher is None else self._context.inbox.take_notices()), *self._collect()]

    def _waiting_commands(self) -> dict[int, list[Command]]:
        """What waits in the inbox, by project. Of TRAINs with the same parameters the newest stands for all."""
        found: dict[int, list[Command]] = {}
        for command in self._context.inbox.commands():
            found.setdefault(command.project_id, []).append(command)
        return {project_id: self._drop_repeated(commands) for project_id, commands in found.items()}

    def _drop_repeated(self, commands: list[Command]) -> list[Command]:
        trains = [command for command in commands if command.action is Action.TRAIN]
        newest = {tuple(sorted(command.parameters.items())): command.id for command in trains}
        spare = [command for command in trains if command.id not in newest.values()]
        for command in spare:
            self._context.inbox.delete_command(command.id)
            log.info(
                "command_handled",
                project=command.project_id,
                command=command.id,
                action=command.action,
                asked_by=command.asked_by,
                reason="superseded by a newer one",
            )
        return [command for command in commands if command not in spare]

    def _publish_board(self) -> None:
        if self._publisher:
            self._publisher.publish(self.serving_table.term, self._clock())

    def _is_current(self, job: RefreshJob) -> bool:
        """Whether the job's version serves. Raises NotLeading: what goes on after a pause must not undo what another one did."""
        if not self._is_leading():
            raise NotLeading("Another adapter leads, or none: this one tells Label Studio nothing.")
        view = self._context.board.view(job.project_id)
        told = view and (view.project.key, view.served.effective_version(self._clock()))
        return told == (job.project_key, job.version)

    def _seconds_until_due(self, now: float) -> float:
        if self.projects.is_rolling_out():
            return _ROLLOUT_SECONDS
        if self.projects.is_busy(now):
            return _ACTIVE_SECONDS
        most = _IDLE_SECONDS if self._publisher is None else _INBOX_SECONDS
        return max(0.0, min([most, *(at - now for at in self.projects.due_times())]))
