"""The steward of one project: what is to be done about its versions, commands, labels and runs, one step at a time.

A step goes: versions that runs published, commands, labels (when a look is due) and the trigger, the board, the refresh.
Each part reads what it needs from the store, or from memory that was read from there, so a step that was cut off
anywhere is simply taken again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from services.adapter.leader.commands import SERVING_ACTIONS, CommandHandler
from services.adapter.leader.status import StatusBuilder, with_earlier_labels
from services.adapter.metrics import leader
from services.adapter.ports import Launcher
from services.adapter.serving import sentences
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.refresh import Refresher
from services.adapter.serving.sync import LabelStudioSync
from services.adapter.serving.versions import ControlCheck, Versions, no_suggestions_reason
from services.adapter.state.board import Board, ProjectView
from services.adapter.state.documents import ProjectDocuments
from services.adapter.training.label_reader import LabelReader, LabelSource, label_space_of
from services.adapter.training.planner import Planner
from services.adapter.training.retention import Retention
from services.adapter.training.run_queue import RunQueue, RunStarter
from services.adapter.training.runs import RunHistory, RunMetrics
from services.core.domain import Action, Command, LabelSpace, Project
from services.core.errors import StoreError
from services.core.inbox import Inbox
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.settings.parameters import apply_overrides

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ReconcilerContext:
    """What all stewards share."""

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
    """Looks after one project."""

    def __init__(self, project: Project, tools: ReconcilerContext) -> None:
        """Nothing is read before `begin`."""
        self.project = project
        self.context = tools
        self.problems: dict[str, str] = {}
        self.documents = ProjectDocuments(tools.registry.store, project.key)
        self.sync = LabelStudioSync(self.documents, tools.refresher)
        self.history = RunHistory(tools.runs, tools.launcher, project)
        self.commands = CommandHandler(
            tools.inbox, tools.promotions, tools.launcher, self.documents, self.history
        )
        self.planner = Planner(
            tools.settings.trigger.of(project.id),
            apply_overrides(
                tools.settings.training.parameters(), tools.settings.trigger.parameters_of(project.id)
            ),
            tools.settings.training,
            LabelReader(tools.label_studio, project.id),
            self.history,
            tools.inbox,
            tools.run_queue,
            lambda: tools.promotions.table.term,
        )
        self.versions = Versions(tools.promotions, self.documents, self.history)
        self.starter = RunStarter(tools.launcher, self.history)
        self._status_builder = StatusBuilder(tools.registry, self.history, self.planner, self.versions)
        self._space: LabelSpace | None = None
        self._control_check = ControlCheck(tools.registry)
        self._update_label_space()
        self._train_commands: tuple[Command, ...] = ()
        self._started = False
        self._sweep_due = True
        self._run_metrics = RunMetrics(project.id)
        self._earlier_view: ProjectView | None = None
        self._stored_bytes: int | None = None
        self._webhook_silent_at = 0.0

    def is_busy(self, now: float) -> bool:
        """Whether figures on the board are moving."""
        progress = self.sync.progress(self.project.id)
        refreshes = progress is not None and not progress.done
        return self.history.active is not None or refreshes or self.versions.is_changing(now)

    def restarted(self, problem: str) -> ProjectReconciler:
        """One that reads the store again, because what was half written may be there all the same."""
        steward = ProjectReconciler(self.project, self.context)
        steward.problems["store"] = problem
        steward.sync.new_tasks = self.sync.new_tasks
        steward._run_metrics, steward._stored_bytes = self._run_metrics, self._stored_bytes
        return steward

    def start(self, now: float) -> None:
        """Read the store and show the project. Raises StoreError."""
        self.sync.load()
        self._update_label_space()
        self.history.load()
        self.versions.reset()
        self._restore_from_board()
        self._report_active_run()
        self._publish_status(now)
        self._started = True

    def _restore_from_board(self) -> None:
        """What the last leader's board says, so that nothing is counted twice and nothing is forgotten."""
        before = self.context.board.view(self.project.id)
        if before is None or before.project.key != self.project.key:
            before = None
        self._earlier_view = before
        self._run_metrics.begin(self.history.records, before)
        if before:
            self.planner.webhook.restore(before.figures.last_event_at)
            self._stored_bytes = self._stored_bytes or before.figures.stored_bytes

    def report_unreadable(self, problem: str) -> None:
        """Show why nothing goes on, with what served last, whose predictions are given on."""
        self.problems["store"] = problem
        known = self.context.board.view(self.project.id)
        if known is None or known.project.key != self.project.key:
            known = ProjectView(self.project, self._space)
            with contextlib.suppress(StoreError):  # then nothing is known of it
                known = replace(known, served=self.context.promotions.served(self.project.key))
        self.context.board.put(replace(known, problem=problem))

    def remember_setup(self, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Keep what /setup said, in the next step. From any thread."""
        self.sync.remember_setup(overrides, seen_url)

    def receive(self, action: str, at: float) -> None:
        """An event; /setup comes before every task that is shown, and says nothing about labels."""
        if action != "SETUP":
            self.planner.event_received(at)
        self.sync.new_tasks = self.sync.new_tasks or action == "TASKS_CREATED"

    def reconcile(self, commands: Sequence[Command], now: float) -> None:
        """Do what is due. Raises Missing for a project that Label Studio no longer has, StoreError to be tried again."""
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
        self._publish_status(now)  # before Label Studio is asked, which may take its time
        self._reconcile_labels(now)
        self.starter.ensure_running(now)
        self._publish_status(now)
        self._refresh(now)
        if self._sweep_due and self.history.last:
            self.context.retention.sweep(
                self.project, self.context.promotions.served(self.project.key), self.history, now
            )
            self._stored_bytes = self.context.registry.stored_bytes(self.project.key)
            self._sweep_due = False

    def _reconcile_versions(self, commands: Sequence[Command], now: float) -> None:
        """One step towards the version that is to be served. What a person asked for goes before the gate's wishes."""
        commands = self.commands.drop_superseded(self.project, commands)
        if not any(command.action in SERVING_ACTIONS for command in commands):
            self.versions.check_served(self.project, now)
            control = self._space.from_name if self._space else None
            self.versions.decide(self.project, control, lambda: self._publish_status(now), now)
        self._train_commands = tuple(self._handle_commands(commands, now))
        self.context.promotions.rollouts.cancel_unwanted(self.project.key)

    def _handle_commands(self, commands: Sequence[Command], now: float) -> list[Command]:
        """Carry out all but TRAIN; the TRAINs that wait. What was asked before a CANCEL is cancelled as well."""
        trains: list[Command] = []
        goes_on = False
        for command in commands:
            if self.history.has_run_for(command.id):
                self.context.inbox.delete_command(command.id)
            elif command.action is Action.TRAIN:
                trains.append(command)
            elif not (
                goes_on and command.action is Action.UNPIN
            ):  # that is about what comes of the promotion
                if command.action is Action.CANCEL:
                    for dropped in trains:
                        self.context.inbox.delete_command(dropped.id)
                    trains = []
                goes_on = not self._handle(command, now) or goes_on
        return trains

    def _handle(self, command: Command, now: float) -> bool:
        """Whether it is decided."""
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
        planner = self.planner
        looked = planner.plan(
            self._train_commands, self.sync.connection.overrides, now, paused=self.sync.connection.paused
        )
        self.problems["label studio"] = planner.reader.problem
        if planner.problem or looked:
            self.problems["parameters"] = planner.problem
        if planner.webhook.is_silent(now):
            leader.unannounced(self.project.id)
            self._webhook_silent_at = now
        if looked and planner.reading:
            self.sync.note_task_count(planner.reading.task_number)
            self._update_project(planner.reading.project)

    def _update_project(self, project: Project) -> None:
        if project != self.project:
            self.context.registry.write_project(project)
            self.project = self.history.project = project
            self._update_label_space()
            log.info("project_changed", project=project.id, label_config=project.label_config_hash)

    def _update_label_space(self) -> None:
        """What the label config asks, by the control that settings name now; they may have changed since the last step."""
        before, control = self._space, self.planner.control(self.sync.connection.overrides)
        self._space, self._no_space_reason = label_space_of(self.project, control)
        if self._space != before:
            self.planner.poll_soon()

    def _foreign_versions(self) -> tuple[str, ...]:
        """Served versions that answer another control."""
        return self._control_check.foreign_versions(self.project.key, self._space, self.versions.served)

    def _refresh(self, now: float) -> None:
        """Have Label Studio's predictions and title follow what is served."""
        told = self.context.promotions.served(self.project.key).effective_version(now)
        progress = self.sync.progress(self.project.id)
        self.problems["refresh"] = progress.problem if progress else ""
        if told is not None and self._space is not None and told not in self._foreign_versions():
            self.sync.follow_served(self.project, self._space, told, is_quiet=self.planner.is_quiet)

    def _report_active_run(self) -> None:
        """Other projects wait for the run that goes on here."""
        active = self.history.active
        self.context.run_queue.set_running(self.project.id, active.run if active else None)

    def _publish_status(self, now: float) -> None:
        served, foreign = self.versions.served, self._foreign_versions()
        own = (
            no_suggestions_reason(served, self._space, foreign),
            self.versions.problem,
            self.versions.refusal,
            self.versions.blocked_reason,
            self.starter.problem,
        )
        view = self._status_builder.build(
            self.project,
            self._space,
            self.sync.progress(self.project.id),
            (self._no_space_reason, *self.problems.values(), *own),
            now,
            pending=bool(self._train_commands),
            paused=self.sync.connection.paused,
            stored_bytes=self._stored_bytes,
        )
        silent = self._webhook_silent_at > (self.planner.webhook.last_event_at or 0.0)
        view = replace(
            with_earlier_labels(view, self._earlier_view),
            foreign=foreign,
            hints=(
                *sentences.pending_advice(view.figures.pending),
                *sentences.advice(self.sync.connection.seen_url, silent=silent),
                *filter(None, (view.figures.judged.truncation if view.figures.judged else "",)),
            ),
        )
        if view != self.context.board.view(self.project.id):
            self.context.board.put(view)
