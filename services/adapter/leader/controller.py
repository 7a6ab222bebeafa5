"""The controller: reconciles all projects while this process leads; the next term starts with a new one.

Everything happens in `tick(now)`, in the replica's thread, and from what the store holds: the next leader resumes a term that
ends anywhere. Change notices come from the routes of all replicas; commands are stored before they are answered. Only this
thread writes serving.json, requests of runs, outcomes of versions and the board.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

import structlog

from services.adapter.leader.commands import group_commands
from services.adapter.leader.context import ReconcilerContext
from services.adapter.leader.encoder_report import EncoderReporter
from services.adapter.leader.encoder_uses import known_uses
from services.adapter.leader.encoders import EncoderCollector
from services.adapter.leader.garbage import GarbageCollector, take_gc_commands
from services.adapter.leader.inbox_reader import InboxReader
from services.adapter.leader.loading import id_of
from services.adapter.leader.projects import ProjectSet
from services.adapter.leader.work_queue import WorkQueue
from services.adapter.leader.workers import Workers
from services.adapter.ports import Inference, Launcher, Rollout
from services.adapter.serving.answers import ModelAnswers
from services.adapter.serving.delivery_ports import DeliveryPorts
from services.adapter.serving.label_studio import RefreshJob
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.refresh import Refresher
from services.adapter.serving.rollouts import RolloutPoller
from services.adapter.serving.stored import stored_predictions
from services.adapter.serving.table import ServingTableWriter
from services.adapter.state.board import Board
from services.adapter.state.board_file import BoardPublisher, read_board
from services.adapter.state.documents import NotLeading
from services.adapter.training.retention import Retention, kept_versions
from services.adapter.training.run_queue import RunQueue
from services.core.domain import Command, Served
from services.core.inbox import Inbox
from services.core.labelstudio import LabelStudio
from services.core.notices import ChangeNotice
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.store import ObjectStore

log = structlog.get_logger()
_BUDGET_SECONDS: Final = 0.1
"""After which a tick starts no further step: the next tick does, after the commands that have come meanwhile."""
_IDLE_SECONDS: Final = 5.0
_INBOX_SECONDS: Final = 1.0
"""Between reads of the inbox, if there are other replicas."""


class Controller:
    """Reconciles every project that Label Studio has reported, for one term."""

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
        workers: Workers,
        clock: Callable[[], float] = time.time,
        *,
        alone: bool = True,
        is_leading: Callable[[], bool] = lambda: True,
        take_changed: Callable[[], Collection[int]] = frozenset,
    ) -> None:
        """`store` refuses changes when this process does not lead. Nothing is read and no thread runs yet.

        `collect` takes the change notices that this process's routes have buffered. `workers` run what is slow. `alone`: there are no other replicas.
        `is_leading`: whether this process leads at this moment, for what the store cannot fence. `take_changed` takes the ids of
        projects whose runs have changed.
        """
        registry = Registry(store)
        self.serving_table = ServingTableWriter(registry)
        self._rollouts = RolloutPoller(rollout)
        ports = DeliveryPorts(
            label_studio,
            inference,
            settings.auth,
            settings.serving,
            self._served,
            lambda job: stored_predictions(registry, job.project_key, job.version),
            lambda job: registry.manifest(job.project_key, job.version).is_evaluated,
        )
        self.refresher = Refresher(ports, self._is_current, clock)
        self._context = ReconcilerContext(
            settings=settings,
            registry=registry,
            runs=Runs(store),
            inbox=Inbox(store),
            label_studio=label_studio,
            backends=label_studio,
            launcher=launcher,
            promotions=Promotions(self.serving_table, rollout, clock),
            refresher=self.refresher,
            retention=Retention(registry, settings.storage),
            run_queue=RunQueue(settings.trigger.max_active_runs),
            board=board,
            workers=workers,
            queue=WorkQueue(),
            clock=clock,
            answers=ModelAnswers(registry, inference, lambda key: self._shown(id_of(key), key)),
        )
        self.projects = ProjectSet(self._context)
        known = partial(known_uses, self.projects, settings.training.parameters().base_model)
        reporter = EncoderReporter(store, self.projects, self._wake)
        self._encoders = EncoderCollector(store, workers, known, clock, reporter.report)
        self._garbage = GarbageCollector(
            store,
            settings.storage,
            self._context.inbox,
            workers,
            self._encoders,
            self._is_kept,
            lambda: self.serving_table.term,
        )
        self._collect = collect
        self._clock = clock
        self._is_leading = is_leading
        self._take_changed = take_changed
        self._publisher = None if alone else BoardPublisher(store, board)
        self._began = False
        self._inbox = InboxReader(self._context.inbox, workers)

    def start(self) -> None:
        """Start the refresher's thread; all else happens in ticks."""
        self.refresher.start()

    def resign(self, *, wait: bool) -> None:
        """Stop; `wait` until the refresher's thread has ended. The board stays as it is."""
        self._context.workers.stop()
        self._inbox.close()
        self.refresher.stop(wait=wait)
        self._context.board.is_leader = False

    def tick(self, now: float) -> float:
        """Do all that is due; return the seconds until the next tick. Raises StoreError, NotLeading."""
        if not self._began:
            self._begin()
        self.serving_table.repair(now)
        commands = self._read_inbox(now)
        gc_commands = take_gc_commands(commands)
        self._context.workers.deliver()
        self.projects.step(commands, now)
        for project_id in (*commands, *self._context.run_queue.startable(), *self._take_changed()):
            self._context.queue.add(project_id, now)
        handled: set[int] = set()
        ends_at = self._clock() + _BUDGET_SECONDS
        self._reconcile_due(commands, handled, now, ends_at)
        while self._clock() < ends_at and self._context.workers.deliver():
            self.projects.step(commands, now)
            self._reconcile_due(commands, handled, now, ends_at)
        self._rollouts.poll(now)
        self._note_complete()
        self._inbox.clean()
        self._garbage.step(gc_commands, now)
        self._encoders.step(now)
        self._publish_board()
        return self._seconds_until_due(now)

    def _reconcile_due(
        self, commands: Mapping[int, list[Command]], handled: set[int], now: float, ends_at: float
    ) -> None:
        """Take a step with each project that is due, those with commands first, until the tick's time is used up.

        `handled`: the projects whose commands were handled in this tick.
        """
        queue, began = self._context.queue, ends_at - _BUDGET_SECONDS
        while (passed := max(0.0, self._clock() - began)) < _BUDGET_SECONDS:
            if (due := queue.take(now, first=commands)) is None:
                return
            given = None if due in handled else commands.get(due, [])
            if self.projects.reconcile(due, given, now + passed):
                handled.add(due)

    def _begin(self) -> None:
        """Report what is served, so that requests are answered; the projects are read by workers meanwhile. Raises StoreError."""
        board, table = self._context.board, self.serving_table.table()
        if not board.ready.is_set():
            board.replace(read_board(self._context.registry.store, table))
            board.ready.set()
        self._began = True
        log.info("term_begun", term=self.serving_table.term, served=len(table.projects))

    def _note_complete(self) -> None:
        """Export the metrics of all projects once each was read."""
        board = self._context.board
        if not board.is_leader and self.projects.is_complete:
            board.is_leader = True
            log.info("leader_ready", projects=len(self.projects.reconcilers), term=self.serving_table.term)

    def _read_inbox(self, now: float) -> dict[int, list[Command]]:
        """Pass on the change notices of all replicas; return the commands by project. Raises StoreError."""
        contents = self._inbox.read()
        self.projects.receive([*contents.notices, *self._collect()], now)
        commands, superseded = group_commands(contents.commands)
        for command in superseded:
            self._context.inbox.answer_command(command, "superseded by a newer one")
        return commands

    def _publish_board(self) -> None:
        if self._publisher:
            self._publisher.publish(self.serving_table.term, self._clock())

    def _is_kept(self, project_key: str, version: str) -> bool:
        """Return whether the version must not be deleted, by the table in memory. Raises StoreError."""
        reconciler = self.projects.reconcilers.get(id_of(project_key))
        is_target = reconciler is not None and reconciler.versions.rollout.target == version
        return is_target or version in kept_versions(self.serving_table.served(project_key))

    def _wake(self, project_id: int) -> None:
        self._context.queue.add(project_id, self._clock())

    def _is_current(self, job: RefreshJob) -> bool:
        """Return whether the job's version is in effect. Raises NotLeading."""
        return self._served(job).effective_version(self._clock()) == job.version

    def _served(self, job: RefreshJob) -> Served:
        """Return what the job's project serves. Raises NotLeading: a resumed process must not undo its successor's work."""
        if not self._is_leading():
            raise NotLeading("This adapter does not lead: it changes nothing in Label Studio.")
        return self._shown(job.project_id, job.project_key)

    def _shown(self, project_id: int, project_key: str) -> Served:
        """Return what a project serves, as the board shows it; for any thread."""
        view = self._context.board.view(project_id)
        return view.served if view and view.project.key == project_key else Served()

    def _seconds_until_due(self, now: float) -> float:
        if self._inbox.has_more:
            return 0.0
        most = _INBOX_SECONDS if self._publisher else _IDLE_SECONDS
        next_at = min(self._context.queue.next_at(), self.projects.next_at())
        return max(0.0, min(most, next_at - now))
