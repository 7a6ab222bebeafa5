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
from services.adapter.history import History, Record
from services.adapter.link import Link
from services.adapter.notebook import Fate, Notebook, Verdict
from services.adapter.orders import Orders
from services.adapter.planner import Planner
from services.adapter.portrait import Portrait
from services.adapter.ports import Launcher
from services.adapter.refresh import Refresher
from services.adapter.retention import Retention
from services.adapter.rollout import Rollout
from services.adapter.turns import Turns
from services.adapter.watch import Source, Watch, space_of
from services.core.domain import Action, Command, Project
from services.core.errors import StoreError
from services.core.inbox import Inbox
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings

log = structlog.get_logger()
_SERVES = frozenset({Action.PROMOTE, Action.ROLLBACK})


@dataclass(frozen=True, slots=True)
class Tools:
    """What all stewards share."""

    settings: Settings
    registry: Registry
    runs: Runs
    inbox: Inbox
    source: Source
    launcher: Launcher
    rollout: Rollout
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
        self.orders = Orders(tools.inbox, tools.rollout, tools.launcher, self.notebook, self.history)
        self.planner = Planner(
            tools.settings.trigger,
            tools.settings.training.parameters(),
            Watch(tools.source, project.id),
            self.history,
            tools.inbox,
            tools.turns,
        )
        self._portrait = Portrait(tools.registry, self.history, self.planner)
        self._space, self._why_no_space = space_of(project)
        self._trains: tuple[Command, ...] = ()
        self._verdict: Verdict | None = None
        self._dealt: set[str] = set()
        self._launched: set[str] = set()
        self._begun = False
        self._restored = False
        self._sweep_due = True

    @property
    def is_busy(self) -> bool:
        """Whether figures on the board are moving."""
        progress = self.link.progress(self.project.id)
        return self.history.active is not None or (progress is not None and not progress.done)

    def anew(self, problem: str) -> Steward:
        """One that reads the store again, because what was half written may be there all the same."""
        steward = Steward(self.project, self.tools)
        steward.problems["store"] = problem
        steward.link.new_tasks = self.link.new_tasks
        return steward

    def begin(self) -> None:
        """Read the store and show the project. Raises StoreError."""
        self.link.read()
        self.history.read()
        self._dealt.clear()
        self._take_turn()
        self._show()
        self._begun = True

    def cannot(self, problem: str) -> None:
        """Show why nothing goes on, with what served last, whose predictions are given on."""
        self.problems["store"] = problem
        known = self.tools.board.view(self.project.id)
        if known is None or known.project.key != self.project.key:
            known = ProjectView(self.project, self._space)
            with contextlib.suppress(StoreError):  # then nothing is known of it
                known = replace(known, served=self.tools.rollout.served(self.project.key))
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
            self.begin()
        if not self._restored:
            self.problems["served"] = self.tools.rollout.restore(self.project, now)
            self._restored = True
        self.link.keep()
        if self.history.update():
            self._sweep_due = True
            self.planner.look_soon()
        self._take_turn()
        self._take_up(now)
        self._trains = tuple(self._obey(commands, now))
        self._keep_running()
        self._show()  # before Label Studio is asked, which may take its time
        self._plan(now)
        self._keep_running()
        self._show()
        self._refresh()
        if self._sweep_due and self.history.last:
            self.tools.retention.sweep(
                self.project, self.tools.rollout.served(self.project.key), self.history, now
            )
            self._sweep_due = False

    def _take_up(self, now: float) -> None:
        for record in self.history.records:
            for published in record.status.published if record.status else ():
                if published.version in self._dealt:
                    continue
                known = self.notebook.verdict(published.version)
                if known is None:
                    self._show()  # loading takes seconds, and the run may have ended meanwhile
                    known = self.tools.rollout.take_up(self.project, published, self.notebook, now)
                    if known.fate is Fate.PROMOTED:
                        self.problems["served"] = ""
                self._take_note(record, known)

    def _take_note(self, record: Record, verdict: Verdict) -> None:
        self._dealt.add(verdict.version)
        self._verdict = verdict
        self.problems["version"] = verdict.sentence if verdict.fate is Fate.REFUSED else ""
        if verdict.fate is Fate.STALE:
            self.history.mark_stale(record.run)

    def _obey(self, commands: Sequence[Command], now: float) -> list[Command]:
        """Carry out all but TRAIN; the TRAINs that wait. What was asked before a CANCEL is cancelled as well."""
        trains: list[Command] = []
        for command in commands:
            if self.history.answers(command.id):
                self.tools.inbox.done(command.id)
            elif command.action is Action.TRAIN:
                trains.append(command)
            else:
                if command.action is Action.CANCEL:
                    for dropped in trains:
                        self.tools.inbox.done(dropped.id)
                    trains = []
                refusal = self.problems["command"] = self.orders.carry_out(self.project, command, now)
                if not refusal and command.action in _SERVES:
                    self.problems["served"] = ""
                self.link.read()
                self.planner.look_soon()
        return trains

    def _plan(self, now: float) -> None:
        planner = self.planner
        looked = planner.plan(
            self._trains, self.link.connection.overrides, now, paused=self.link.connection.paused
        )
        self.problems["label studio"] = planner.watch.problem
        if planner.problem or looked:
            self.problems["parameters"] = planner.problem
        if looked and planner.reading:
            self.link.count(planner.reading.task_number)
            self._take_over(planner.reading.project)

    def _take_over(self, project: Project) -> None:
        if project != self.project:
            self.tools.registry.write_project(project)
            self.project = self.history.project = project
            self._space, self._why_no_space = space_of(project)
            log.info("the project changed", project=project.id, label_config=project.label_config_hash)

    def _keep_running(self) -> None:
        """A request without an outcome runs: new ones, and after a start those that were cut off."""
        active = self.history.active
        if active and active.run not in self._launched:
            self.tools.launcher.launch(active.request)
            self._launched.add(active.run)
            log.info(
                "a run was launched", project=self.project.id, run=active.run, reason=active.request.cause
            )

    def _refresh(self) -> None:
        """Have Label Studio's predictions and title follow what is served."""
        current = self.tools.rollout.served(self.project.key).current
        progress = self.link.progress(self.project.id)
        self.problems["refresh"] = progress.problem if progress else ""
        if current is not None and self._space is not None:
            self.link.follow(self.project, self._space, current, is_quiet=self.planner.is_quiet)

    def _take_turn(self) -> None:
        """Other projects wait for the run that goes on here."""
        active = self.history.active
        self.tools.turns.running(self.project.id, active.run if active else None)

    def _show(self) -> None:
        view = self._portrait.draw(
            self.project,
            self._space,
            self.tools.rollout.served(self.project.key),
            self._verdict,
            self.link.progress(self.project.id),
            (self._why_no_space, *self.problems.values()),
            pending=bool(self._trains),
            paused=self.link.connection.paused,
        )
        if view != self.tools.board.view(self.project.id):
            self.tools.board.put(view)
