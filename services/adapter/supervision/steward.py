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

from services.adapter.board import Board, ProjectView
from services.adapter.metrics import leader
from services.adapter.notebook import Notebook
from services.adapter.ports import Launcher
from services.adapter.serving import sentences
from services.adapter.serving.answering import Answering, silence
from services.adapter.serving.link import Link
from services.adapter.serving.promotions import Promotions
from services.adapter.serving.refresh import Refresher
from services.adapter.serving.versions import Versions
from services.adapter.supervision.figures import as_read_last
from services.adapter.supervision.orders import SERVES, Orders
from services.adapter.supervision.portrait import Portrait
from services.adapter.training.history import History
from services.adapter.training.launching import Launching
from services.adapter.training.planner import Planner
from services.adapter.training.retention import Retention
from services.adapter.training.tally import Tally
from services.adapter.training.turns import Turns
from services.adapter.training.watch import Source, Watch, space_of
from services.core.domain import Action, Command, LabelSpace, Project
from services.core.errors import StoreError
from services.core.inbox import Inbox
from services.core.parameters import apply_overrides
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Tools:
    """What all stewards share."""

    settings: Settings
    registry: Registry
    runs: Runs
    inbox: Inbox
    source: Source
    launcher: Launcher
    promotions: Promotions
    refresher: Refresher
    retention: Retention
    turns: Turns
    board: Board


class Steward:
    """Looks after one project."""

    def __init__(self, project: Project, tools: Tools) -> None:
        """Nothing is read before `begin`."""
        self.project = project
        self.tools = tools
        self.problems: dict[str, str] = {}
        self.notebook = Notebook(tools.registry.store, project.key)
        self.link = Link(self.notebook, tools.refresher)
        self.history = History(tools.runs, tools.launcher, project)
        self.orders = Orders(tools.inbox, tools.promotions, tools.launcher, self.notebook, self.history)
        self.planner = Planner(
            tools.settings.trigger.of(project.id),
            apply_overrides(
                tools.settings.training.parameters(), tools.settings.trigger.parameters_of(project.id)
            ),
            tools.settings.training,
            Watch(tools.source, project.id),
            self.history,
            tools.inbox,
            tools.turns,
            lambda: tools.promotions.ledger.term,
        )
        self.versions = Versions(tools.promotions, self.notebook, self.history)
        self.launching = Launching(tools.launcher, self.history)
        self._portrait = Portrait(tools.registry, self.history, self.planner, self.versions)
        self._space: LabelSpace | None = None
        self._answering = Answering(tools.registry)
        self._read_space()
        self._trains: tuple[Command, ...] = ()
        self._begun = False
        self._sweep_due = True
        self._tally = Tally(project.id)
        self._before: ProjectView | None = None
        self._stored_bytes: int | None = None
        self._silent_at = 0.0

    def is_busy(self, now: float) -> bool:
        """Whether figures on the board are moving."""
        progress = self.link.progress(self.project.id)
        refreshes = progress is not None and not progress.done
        return self.history.active is not None or refreshes or self.versions.is_moving(now)

    def anew(self, problem: str) -> Steward:
        """One that reads the store again, because what was half written may be there all the same."""
        steward = Steward(self.project, self.tools)
        steward.problems["store"] = problem
        steward.link.new_tasks = self.link.new_tasks
        steward._tally, steward._stored_bytes = self._tally, self._stored_bytes
        return steward

    def begin(self, now: float) -> None:
        """Read the store and show the project. Raises StoreError."""
        self.link.read()
        self._read_space()
        self.history.read()
        self.versions.forget()
        self._recall()
        self._take_turn()
        self._show(now)
        self._begun = True

    def _recall(self) -> None:
        """What the last leader's board says, so that nothing is counted twice and nothing is forgotten."""
        before = self.tools.board.view(self.project.id)
        if before is None or before.project.key != self.project.key:
            before = None
        self._before = before
        self._tally.begin(self.history.records, before)
        if before:
            self.planner.announcements.recall(before.figures.last_event_at)
            self._stored_bytes = self._stored_bytes or before.figures.stored_bytes

    def cannot(self, problem: str) -> None:
        """Show why nothing goes on, with what served last, whose predictions are given on."""
        self.problems["store"] = problem
        known = self.tools.board.view(self.project.id)
        if known is None or known.project.key != self.project.key:
            known = ProjectView(self.project, self._space)
            with contextlib.suppress(StoreError):  # then nothing is known of it
                known = replace(known, served=self.tools.promotions.served(self.project.key))
        self.tools.board.put(replace(known, problem=problem))

    def remember(self, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Keep what /setup said, in the next step. From any thread."""
        self.link.remember(overrides, seen_url)

    def hear(self, action: str, at: float) -> None:
        """An event; /setup comes before every task that is shown, and says nothing about labels."""
        if action != "SETUP":
            self.planner.hear(at)
        self.link.new_tasks = self.link.new_tasks or action == "TASKS_CREATED"

    def step(self, commands: Sequence[Command], now: float) -> None:
        """Do what is due. Raises Missing for a project that Label Studio no longer has, StoreError to be tried again."""
        if not self._begun:
            self.begin(now)
        self.link.keep()
        self._read_space()
        if self.history.update():
            self._sweep_due = True
            self.planner.look_soon()
        self._tally.count(self.history.records)
        self._take_turn()
        self._serve(commands, now)
        self.launching.keep_running(now)
        self._show(now)  # before Label Studio is asked, which may take its time
        self._plan(now)
        self.launching.keep_running(now)
        self._show(now)
        self._refresh(now)
        if self._sweep_due and self.history.last:
            self.tools.retention.sweep(
                self.project, self.tools.promotions.served(self.project.key), self.history, now
            )
            self._stored_bytes = self.tools.registry.stored_bytes(self.project.key)
            self._sweep_due = False

    def _serve(self, commands: Sequence[Command], now: float) -> None:
        """One step towards the version that is to be served. What a person asked for goes before the gate's wishes."""
        commands = self.orders.folded(self.project, commands)
        if not any(command.action in SERVES for command in commands):
            self.versions.restore(self.project, now)
            control = self._space.from_name if self._space else None
            self.versions.take_up(self.project, control, lambda: self._show(now), now)
        self._trains = tuple(self._obey(commands, now))
        self.tools.promotions.targets.settle(self.project.key)

    def _obey(self, commands: Sequence[Command], now: float) -> list[Command]:
        """Carry out all but TRAIN; the TRAINs that wait. What was asked before a CANCEL is cancelled as well."""
        trains: list[Command] = []
        goes_on = False
        for command in commands:
            if self.history.answers(command.id):
                self.tools.inbox.delete_command(command.id)
            elif command.action is Action.TRAIN:
                trains.append(command)
            elif not (
                goes_on and command.action is Action.UNPIN
            ):  # that is about what comes of the promotion
                if command.action is Action.CANCEL:
                    for dropped in trains:
                        self.tools.inbox.delete_command(dropped.id)
                    trains = []
                goes_on = not self._carry_out(command, now) or goes_on
        return trains

    def _carry_out(self, command: Command, now: float) -> bool:
        """Whether it is decided."""
        refusal = self.orders.carry_out(self.project, command, now)
        self.problems["command"] = refusal or ""
        if refusal is None:
            return False
        if not refusal and command.action in SERVES:
            self.versions.are_served()
        self.link.read()
        self.planner.look_soon()
        return True

    def _plan(self, now: float) -> None:
        planner = self.planner
        looked = planner.plan(
            self._trains, self.link.connection.overrides, now, paused=self.link.connection.paused
        )
        self.problems["label studio"] = planner.watch.problem
        if planner.problem or looked:
            self.problems["parameters"] = planner.problem
        if planner.announcements.is_silent(now):
            leader.unannounced(self.project.id)
            self._silent_at = now
        if looked and planner.reading:
            self.link.count(planner.reading.task_number)
            self._take_over(planner.reading.project)

    def _take_over(self, project: Project) -> None:
        if project != self.project:
            self.tools.registry.write_project(project)
            self.project = self.history.project = project
            self._read_space()
            log.info("the project changed", project=project.id, label_config=project.label_config_hash)

    def _read_space(self) -> None:
        """What the label config asks, by the control that settings name now; they may have changed since the last step."""
        before, control = self._space, self.planner.control(self.link.connection.overrides)
        self._space, self._why_no_space = space_of(self.project, control)
        if self._space != before:
            self.planner.look_soon()

    def _foreign(self) -> tuple[str, ...]:
        """Served versions that answer another control."""
        return self._answering.foreign(self.project.key, self._space, self.versions.served)

    def _refresh(self, now: float) -> None:
        """Have Label Studio's predictions and title follow what is served."""
        told = self.tools.promotions.served(self.project.key).effective_version(now)
        progress = self.link.progress(self.project.id)
        self.problems["refresh"] = progress.problem if progress else ""
        if told is not None and self._space is not None and told not in self._foreign():
            self.link.follow(self.project, self._space, told, is_quiet=self.planner.is_quiet)

    def _take_turn(self) -> None:
        """Other projects wait for the run that goes on here."""
        active = self.history.active
        self.tools.turns.running(self.project.id, active.run if active else None)

    def _show(self, now: float) -> None:
        served, foreign = self.versions.served, self._foreign()
        own = (
            silence(served, self._space, foreign),
            self.versions.problem,
            self.versions.refusal,
            self.versions.hindrance,
            self.launching.problem,
        )
        view = self._portrait.draw(
            self.project,
            self._space,
            self.link.progress(self.project.id),
            (self._why_no_space, *self.problems.values(), *own),
            now,
            pending=bool(self._trains),
            paused=self.link.connection.paused,
            stored_bytes=self._stored_bytes,
        )
        silent = self._silent_at > (self.planner.announcements.last_event_at or 0.0)
        view = replace(
            as_read_last(view, self._before),
            foreign=foreign,
            hints=(
                *sentences.awaited(view.figures.pending),
                *sentences.hints(self.link.connection.seen_url, silent=silent),
                *filter(None, (view.figures.judged.truncation if view.figures.judged else "",)),
            ),
        )
        if view != self.tools.board.view(self.project.id):
            self.tools.board.put(view)
