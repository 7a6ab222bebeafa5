"""Reconciles one project: its versions, commands, labels and runs, one step at a time.

A step deals with published versions, then commands, labels (if a poll is due) and the trigger, the board, the refresh. Each
part reads what it needs from the store, or from memory that was read from there, so a step that was cut off anywhere is
simply repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.adapter.leader.commands import SERVING_ACTIONS, CommandHandler
from services.adapter.leader.status import StatusBuilder
from services.adapter.metrics import leader_metrics
from services.adapter.ports import Launcher
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.refresh import Refresher
from services.adapter.serving.sync import LabelStudioSync
from services.adapter.serving.versions import ProjectVersions
from services.adapter.state.board import Board, ProjectView
from services.adapter.state.documents import ProjectDocuments
from services.adapter.training.label_reader import LabelReader, LabelSource, label_space_of
from services.adapter.training.planner import Planner
from services.adapter.training.retention import Retention
from services.adapter.training.run_queue import RunQueue, RunStarter
from services.adapter.training.runs import RunHistory, RunMetrics
from services.core.domain import Action, Command, LabelSpace, Project
from services.core.inbox import Inbox
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.settings.parameters import apply_overrides

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReconcilerContext:
    """What the reconcilers of all projects share."""

    settings: Settings
    registry: Registry
    runs: Runs
    inbox: Inbox
    label_studio: LabelSource
    launcher: Launcher
    promotions: Promotions
    refresher: Refresher
    retention: Retention
    run_queue: RunQueue
    board: Board


class ProjectReconciler:
    """Reconciles one project."""

    def __init__(self, project: Project, context: ReconcilerContext) -> None:
        """Nothing is read before `start`."""
        self.project = project
        self.context = context
        self.problems: dict[str, str] = {}
        documents = ProjectDocuments(context.registry.store, project.key)
        self.sync = LabelStudioSync(documents, context.refresher)
        self.history = RunHistory(context.runs, context.launcher, project)
        self.commands = CommandHandler(
            context.inbox, context.promotions, context.launcher, documents, self.history
        )
        settings = context.settings
        self.planner = Planner(
            settings.trigger.of(project.id),
            apply_overrides(settings.training.parameters(), settings.trigger.parameters_of(project.id)),
            settings.training,
            LabelReader(context.label_studio, project.id),
            self.history,
            context.inbox,
            context.run_queue,
            lambda: context.promotions.table.term,
        )
        self.versions = ProjectVersions(context.promotions, documents, self.history)
        self.starter = RunStarter(context.launcher, self.history)
        self._status_builder = StatusBuilder(
            context.registry, self.history, self.planner, self.versions, self.sync, self.starter
        )
        self.space: LabelSpace | None = None
        self._update_label_space()
        self._train_commands: tuple[Command, ...] = ()
        self._started = False
        self._sweep_due = True
        self._run_metrics = RunMetrics(project.id)
        self._earlier_view: ProjectView | None = None
        self._stored_bytes: int | None = None
        self._webhook_silent_at = 0.0

    def is_busy(self, now: float) -> bool:
        """Return whether a run, a refresh or a rollout is in progress."""
        progress = self.sync.progress(self.project.id)
        is_refreshing = progress is not None and not progress.done
        return self.history.active is not None or is_refreshing or self.versions.is_changing(now)

    def restarted(self, problem: str) -> ProjectReconciler:
        """Return a reconciler that reads the store again, because a write that failed half-way may have happened."""
        new = ProjectReconciler(self.project, self.context)
        new.problems["store"] = problem
        new.sync.new_tasks = self.sync.new_tasks
        new._run_metrics, new._stored_bytes = self._run_metrics, self._stored_bytes
        return new

    def start(self, now: float) -> None:
        """Read the store, continue from the last leader's board, and show the project. Raises StoreError."""
        self.sync.load()
        self._update_label_space()
        self.history.load()
        self.versions.reset()
        before = self.context.board.view(self.project.id)
        self._earlier_view = before = before if before and before.project.key == self.project.key else None
        self._run_metrics.begin(self.history.records, before)
        if before:  # nothing is counted twice, and nothing forgotten
            self.planner.webhook.restore(before.figures.last_event_at)
            self._stored_bytes = self._stored_bytes or before.figures.stored_bytes
        self._report_active_run()
        self._publish_status(now)
        self._started = True

    def receive(self, action: str, at: float) -> None:
        """Handle an event. /setup precedes every task that is shown, and does not mean that labels changed."""
        if action != "SETUP":
            self.planner.event_received(at)
        self.sync.new_tasks = self.sync.new_tasks or action == "TASKS_CREATED"

    def reconcile(self, commands: Sequence[Command], now: float) -> None:
        """Do what is due. Raises LabelStudioNotFound for a project that Label Studio no longer has, StoreError to be retried."""
        if not self._started:
            self.start(now)
        self.sync.save_setup()
        self._update_label_space()
        if self.history.update():
            self._sweep_due = True
            self.planner.poll_soon()
        self._run_metrics.count(self.history.records)
        self._report_active_run()
        self._reconcile_versions(commands, now)
        self.starter.ensure_running(now)
        self._publish_status(now)  # before Label Studio is polled, which may take a while
        self._reconcile_labels(now)
        self.starter.ensure_running(now)
        self._publish_status(now)
        self._refresh(now)
        if self._sweep_due and self.history.last:
            self.context.retention.sweep(self.project, self.versions.served, self.history, now)
            self._stored_bytes = self.context.registry.stored_bytes(self.project.key)
            self._sweep_due = False

    def _reconcile_versions(self, commands: Sequence[Command], now: float) -> None:
        """Take one step towards the version to be served. People's requests precede the gate's decisions."""
        commands = self.commands.drop_superseded(self.project, commands)
        if not any(command.action in SERVING_ACTIONS for command in commands):
            self.versions.check_served(self.project, now)
            control = self.space.from_name if self.space else None
            self.versions.decide(self.project, control, lambda: self._publish_status(now), now)
        self._train_commands = tuple(self._handle_commands(commands, now))
        self.context.promotions.rollouts.cancel_unwanted(self.project.key)

    def _handle_commands(self, commands: Sequence[Command], now: float) -> list[Command]:
        """Handle all commands but TRAIN; return the waiting TRAINs. A CANCEL also cancels those before it."""
        trains: list[Command] = []
        in_progress = False
        for command in commands:
            if self.history.has_run_for(command.id):
                self.context.inbox.delete_command(command.id)
            elif command.action is Action.TRAIN:
                trains.append(command)
            elif not (
                in_progress and command.action is Action.UNPIN
            ):  # which is about the promotion's result
                if command.action is Action.CANCEL:
                    for dropped in trains:
                        self.context.inbox.delete_command(dropped.id)
                    trains = []
                in_progress = not self._handle(command, now) or in_progress
        return trains

    def _handle(self, command: Command, now: float) -> bool:
        """Return whether the command is decided."""
        refusal = self.commands.handle(self.project, command, now)
        self.problems["command"] = refusal or ""
        if refusal is None:
            return False
        if not refusal and command.action in SERVING_ACTIONS:
            self.versions.mark_served()
        self.sync.load()
        self.planner.poll_soon()
        return True

    def _reconcile_labels(self, now: float) -> None:
        planner, connection = self.planner, self.sync.connection
        polled = planner.plan(self._train_commands, connection.overrides, now, paused=connection.paused)
        self.problems["label studio"] = planner.reader.problem
        if planner.problem or polled:
            self.problems["parameters"] = planner.problem
        if planner.webhook.is_silent(now):
            leader_metrics.count_unannounced(self.project.id)
            self._webhook_silent_at = now
        if polled and planner.reading:
            self.sync.note_task_count(planner.reading.task_number)
            if (project := planner.reading.project) != self.project:
                self.context.registry.write_project(project)
                self.project = self.history.project = project
                self._update_label_space()
                log.info("project_changed", project=project.id, label_config=project.label_config_hash)

    def _update_label_space(self) -> None:
        """Parse the label config for the control that settings name, which may have changed since the last step."""
        before, control = self.space, self.planner.control(self.sync.connection.overrides)
        self.space, self._no_space_reason = label_space_of(self.project, control)
        if self.space != before:
            self.planner.poll_soon()

    def _refresh(self, now: float) -> None:
        """Keep Label Studio's predictions and title in sync with the version in effect."""
        version = self.versions.served.effective_version(now)
        progress = self.sync.progress(self.project.id)
        self.problems["refresh"] = progress.problem if progress else ""
        if (
            version is not None
            and self.space is not None
            and version not in self.versions.foreign(self.space)
        ):
            self.sync.follow_served(self.project, self.space, version, is_quiet=self.planner.is_quiet)

    def _report_active_run(self) -> None:
        active = self.history.active
        self.context.run_queue.set_running(self.project.id, active.run if active else None)

    def _publish_status(self, now: float) -> None:
        view = self._status_builder.build(
            self.project,
            self.space,
            (self._no_space_reason, *self.problems.values()),
            now,
            pending=bool(self._train_commands),
            stored_bytes=self._stored_bytes,
            webhook_silent=self._webhook_silent_at > (self.planner.webhook.last_event_at or 0.0),
            earlier=self._earlier_view,
        )
        if view != self.context.board.view(self.project.id):
            self.context.board.put(view)
