"""Reconciles one project, one step at a time: published versions, then commands, labels and the trigger, the board, the refresh.

It makes no request to Label Studio: a poll that is due is given to a worker, and a later step decides on its result. Each part
reads what it needs from the store, or from memory that was read from there, so a step that was cut off is simply repeated.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from services.adapter.leader.commands import SERVING_ACTIONS, CommandHandler
from services.adapter.leader.connection_check import ConnectionCheck
from services.adapter.leader.context import ReconcilerContext
from services.adapter.leader.encoder_uses import base_models
from services.adapter.leader.estimate_scoring import EstimateScoring
from services.adapter.leader.loading import LoadedProject
from services.adapter.leader.polling import LabelPolling
from services.adapter.leader.status import StatusBuilder
from services.adapter.leader.step_schedule import next_step_at
from services.adapter.leader.sweeping import Sweeping
from services.adapter.metrics import leader_metrics
from services.adapter.serving import messages
from services.adapter.serving.sync import LabelStudioSync
from services.adapter.serving.versions import ProjectVersions
from services.adapter.state.board import ProjectView
from services.adapter.state.documents import ProjectDocuments
from services.adapter.training.embedding import Embedding
from services.adapter.training.label_reader import Reading, label_space_of
from services.adapter.training.planner import Planner
from services.adapter.training.poll_schedule import PollSchedule
from services.adapter.training.run_metrics import RunMetrics
from services.adapter.training.run_queue import RunStarter
from services.adapter.training.runs import RunHistory, published_versions
from services.core.domain import Command, LabelSpace, Project
from services.core.notices import ChangeNotice
from services.core.settings.parameters import apply_overrides

log = structlog.get_logger()


class ProjectReconciler:
    """Reconciles one project."""

    def __init__(self, project: Project, context: ReconcilerContext) -> None:
        """Nothing is known before `begin`."""
        self.project = project
        self.context = context
        self.problems: dict[str, str] = {}
        documents = ProjectDocuments(context.registry.store, project.key)
        self.sync = LabelStudioSync(documents, context.refresher)
        self.state_file = context.state_file(project.key)
        self.history = RunHistory(context.runs, context.launcher, project, self.state_file)
        promotions = context.promotions.of(project, documents)
        self.commands = CommandHandler(context.inbox, promotions, context.launcher, documents, self.history)
        settings = context.settings
        self.planner = Planner(
            PollSchedule(settings.trigger.of(project.id)),
            apply_overrides(settings.training.parameters(), settings.trigger.parameters_of(project.id)),
            settings.training,
            context.label_reader(project.id),
            self.history,
            context.inbox,
            context.run_queue,
            lambda: context.promotions.table.term,
        )
        self.versions = ProjectVersions(promotions, self.history, settings.trigger.cold_start)
        self.starter = RunStarter(context.launcher, self.history)
        self.embedding = Embedding(
            self.history,
            self.planner,
            self.state_file,
            context.run_queue,
            context.launcher,
            settings.trigger.embed_seconds,
            lambda: context.promotions.table.term,
        )
        self.estimates = EstimateScoring(project.key, project.id, context)
        self._status_builder = StatusBuilder(
            self.history, self.planner, self.versions, self.sync, self.starter, self.embedding, self.estimates
        )
        self.space: LabelSpace | None = None
        self._update_label_space()
        self._train_commands: tuple[Command, ...] = ()
        self.polling = LabelPolling(project.id, self.planner, context)
        self.sweeping = Sweeping(self.history, context, lambda: self.versions.rollout.target)
        self.connection_check = ConnectionCheck(project.id, self.state_file, context)
        self.run_metrics = RunMetrics(project.id)
        self._earlier_view: ProjectView | None = None
        self._webhook_silent_at = 0.0

    def due_at(self, now: float) -> float:
        """Return when the next step is due, if nothing happens before. Raises StoreError."""
        return next_step_at(self, now)

    def begin(self, loaded: LoadedProject, before: ProjectReconciler | None, now: float) -> None:
        """Continue from what the store has, and show the project. Raises StoreError.

        `before`: the project's reconciler in this term, whose knowledge of Label Studio stays.
        """
        self.sync.begin(loaded.connection)
        self._update_label_space()
        self.state_file.state = loaded.state
        for request in loaded.unwritten:
            self.context.runs.write(request)
        self.history.begin(loaded.records, loaded.last_run)
        self.versions.promotions.manifests.begin(loaded.manifests)
        self.versions.begin(loaded.outcomes)
        self.embedding.begin()
        if before:
            self.problems["store"] = before.problems.get("store", "")
            self.planner.reader, self.sync.new_tasks = before.planner.reader, before.sync.new_tasks
            self.run_metrics, self.sweeping.stored_bytes = before.run_metrics, before.sweeping.stored_bytes
        shown = self.context.board.view(self.project.id)
        self._earlier_view = shown = shown if shown and shown.project.key == self.project.key else None
        self.run_metrics.begin(self.history.records, shown)
        if shown:  # nothing is counted twice, and nothing forgotten
            self.planner.webhook.restore(shown.figures.last_event_at)
            self.sweeping.stored_bytes = self.sweeping.stored_bytes or shown.figures.stored_bytes
        self.sweeping.begin(now)
        self.connection_check.begin(now)
        self._report_active_run()
        self._publish_status(now)

    def receive(self, notice: ChangeNotice, now: float) -> None:
        """Handle events and the data of /setup, which precedes every task that is shown: no label has changed by that."""
        if set(notice.actions) - {"SETUP"}:
            self.planner.event_received(min(notice.at, now), whole="PROJECT_UPDATED" in notice.actions)
        self.sync.new_tasks = self.sync.new_tasks or "TASKS_CREATED" in notice.actions
        if notice.seen_url or notice.overrides is not None:
            self.sync.remember_setup(notice.overrides, notice.seen_url)

    def reconcile(self, commands: Sequence[Command] | None, now: float) -> None:
        """Do what is due; `commands` None: those of the last step stay as they were handled there.

        Raises LabelStudioNotFound for a project that Label Studio no longer has, StoreError to be retried.
        """
        self.sync.save_setup()
        self._update_label_space()
        if ended := self.history.update():
            self.planner.poll_soon()
        if self.embedding.update() or ended:
            self.sweeping.due_at = now
        active = self.history.active
        self.run_metrics.count([*ended, active] if active else ended)
        self._report_active_run()
        if commands is not None:
            self._reconcile_versions(commands, now)
        self.starter.ensure_running(now)
        self._check_connection(now)
        self._reconcile_labels(now)
        self._reconcile_features(now)  # before a new run is started, which needs the place of another
        self.starter.ensure_running(now)
        self.estimates.step(self.planner.reading, published_versions(self.history.records), now)
        self._publish_status(now)
        self._refresh(now)
        self.sweeping.step(self.project, base_models(self), now)

    def _reconcile_versions(self, commands: Sequence[Command], now: float) -> None:
        """Take one step towards the version to be served. People's requests precede the gate's decisions."""
        commands = self.commands.drop_superseded(commands)
        if not any(command.action in SERVING_ACTIONS for command in commands):
            self.versions.check_served(now)
            control = self.space.from_name if self.space else None
            self.versions.decide(control, now)
        handled = self.commands.handle_all(commands, now)
        self._train_commands = handled.trains
        self.problems["command"] = (
            self.problems.get("command", "") if handled.refusal is None else handled.refusal
        )
        if handled.has_served:
            self.versions.mark_served()
        if handled.refusal is not None:
            self.sync.load()
            self.planner.poll_soon()
        self.versions.rollout.cancel_unwanted()

    def _reconcile_labels(self, now: float) -> None:
        """Decide on the labels that a worker has read, and have them read again if that is due."""
        if finished := self.polling.take():
            self._decide(finished.result(), now)
        if self.planner.webhook.is_silent(now):
            leader_metrics.count_unannounced(self.project.id)
            self._webhook_silent_at = now
        self.polling.start_if_due(self._train_commands, self.sync.connection.overrides, now)
        self.problems["label studio"] = self.polling.problem

    def _reconcile_features(self, now: float) -> None:
        is_training = self.history.active is not None or self.planner.is_queued or bool(self._train_commands)
        paused, wish = self.sync.connection.paused, self.versions.cold_start
        self.embedding.step(self.space, wish, now, paused=paused, is_training=is_training)
        self.problems["features"] = self.embedding.problem

    def _check_connection(self, now: float) -> None:
        self.connection_check.step(self.sync.connection.seen_url, now)
        if (is_gone := self.connection_check.is_disconnected(now)) != bool(self.problems.get("connection")):
            self.planner.poll_soon()
        self.problems["connection"] = messages.disconnected(self.sync.connection.seen_url) if is_gone else ""

    def _decide(self, reading: Reading | None, now: float) -> None:
        planner, known = self.planner, self.sync.connection
        planner.is_disconnected = bool(self.problems["connection"])
        planner.decide(reading, self._train_commands, known.overrides, now, paused=known.paused)
        self.problems["parameters"] = planner.problem
        if reading is None:
            return
        self.state_file.update(missing_since=None)
        self.sync.note_task_count(reading.task_number)
        if reading.project != self.project:
            self.context.registry.write_project(reading.project)
            self.project = self.history.project = reading.project
            self._update_label_space()
            log.info("project_changed", project=self.project.id, label_config=self.project.label_config_hash)

    def _update_label_space(self) -> None:
        """Parse the label config for the control that settings name, which may have changed since the last step."""
        before, control = self.space, self.planner.control(self.sync.connection.overrides)
        self.space, reason = label_space_of(self.project, control)
        known = self.planner.parameters or self.planner.defaults
        self._no_space_reason = "" if known.is_own_model else reason
        if self.space != before:
            self.planner.poll_soon()

    def _refresh(self, now: float) -> None:
        """Keep Label Studio's predictions and title in sync with the version in effect."""
        version = self.versions.rollout.served.effective_version(now)
        self.problems["refresh"] = found.problem if (found := self.sync.progress(self.project.id)) else ""
        is_own, is_quiet = version in self.versions.own_models, now >= self.planner.quiet_at
        if version and (is_own or (self.space and version not in self.versions.foreign(self.space))):
            self.sync.follow_served(self.project, self.space, version, is_quiet=is_quiet, own_model=is_own)

    def _report_active_run(self) -> None:
        active = self.history.active
        waits = bool(active and active.started_at is None and active.waiting_reason)
        self.context.run_queue.set_running(self.project.id, active.run if active else None, waits=waits)

    def _publish_status(self, now: float) -> None:
        view = self._status_builder.build(
            self.project,
            self.space,
            (self._no_space_reason, *self.problems.values()),
            now,
            pending=bool(self._train_commands),
            stored_bytes=self.sweeping.stored_bytes,
            webhook_silent=self._webhook_silent_at > (self.planner.webhook.last_event_at or 0.0),
            earlier=self._earlier_view,
        )
        if view != self.context.board.view(self.project.id):
            self.context.board.put(view)
