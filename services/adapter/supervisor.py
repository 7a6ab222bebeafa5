"""The supervisor: one thread that looks after all projects, and the Desk where routes leave what they were told.

Everything happens in `tick(now)`; the thread calls it when woken by a route, a launcher or a timer. What is left at the
desk is a hint (in memory: Label Studio itself is looked at anyway) or a command (stored before it is answered).
Only this thread writes serving.json, requests of runs, verdicts and the board.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import structlog

from services.adapter.board import Board, ProjectView
from services.adapter.planner import Reborn
from services.adapter.ports import Inference, Launcher
from services.adapter.refresh import Job, Refresher
from services.adapter.retention import Retention
from services.adapter.rollout import Rollout
from services.adapter.steward import Steward, Tools
from services.adapter.watch import Backoff
from services.core.domain import Command, Project
from services.core.errors import FitloopError, StoreError
from services.core.inbox import Inbox
from services.core.labelstudio import LabelStudio, Missing
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.store import ObjectStore

log = structlog.get_logger()
_ACTIVE_SECONDS: Final = 0.5
"""Between looks at a run that goes on."""
_IDLE_SECONDS: Final = 5.0
_STOP_SECONDS: Final = 10.0  # for the step that is being taken: Label Studio may let it wait longer
_SAID: Final = 1000  # projects of which /setup's words are held in memory


class Supervisor:
    """Looks after every project that Label Studio has told of."""

    def __init__(
        self,
        settings: Settings,
        store: ObjectStore,
        label_studio: LabelStudio,
        launcher: Launcher,
        inference: Inference,
        board: Board,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Nothing is read and no thread runs yet."""
        registry, most = Registry(store), settings.serving.refresh_max_tasks
        self.refresher = Refresher(label_studio, inference, settings.auth, most, self._is_current, clock)
        self._label_studio = label_studio
        self._tools = Tools(
            settings=settings,
            registry=registry,
            runs=Runs(store),
            inbox=Inbox(store),
            source=label_studio,
            launcher=launcher,
            rollout=Rollout(registry, inference),
            refresher=self.refresher,
            retention=Retention(registry, settings.storage),
            board=board,
        )
        self._clock = clock
        self._events: deque[tuple[int, str, float]] = deque()
        self._said: dict[int, tuple[Mapping[str, str], str]] = {}
        self._stewards: dict[int, Steward] = {}
        self._unknown: dict[int, Backoff] = {}
        self._trouble: dict[int, Backoff] = {}
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin; returns at once."""
        self.refresher.start()
        self._thread = threading.Thread(target=self._loop, name="supervisor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End after the step that is being taken. Runs go on until their launcher is closed."""
        self._stopping.set()
        self._wake.set()
        if self._thread:
            self._thread.join(_STOP_SECONDS)
        self.refresher.stop()

    def wake(self) -> None:
        """Something may have changed: tick soon."""
        self._wake.set()

    def notify(self, project_id: int, action: str) -> None:
        """Something happened in the project."""
        self._events.append((project_id, action, self._clock()))
        if action != "SETUP" or project_id not in self._stewards:
            self.wake()

    def submit(self, command: Command) -> None:
        """Store a command. Raises StoreError, and then it was not taken."""
        self._tools.inbox.put(command)
        self.wake()

    def remember(self, project_id: int, overrides: Mapping[str, str], seen_url: str) -> None:
        """Keep what /setup said: run parameters, and the URL by which Label Studio reached us."""
        if self._said.get(project_id) != (overrides, seen_url):
            if len(self._said) >= _SAID:
                self._said.clear()
            self._said[project_id] = (dict(overrides), seen_url)
            self.wake()

    def tick(self, now: float) -> float:
        """Do all that is due; the seconds until the next tick is."""
        if not self._tools.board.ready.is_set():
            self._read()
        self._hear(now)
        commands = self._commands()
        for project_id in {*self._unknown, *commands.keys()} - self._stewards.keys():
            self._open(project_id, now)
        for project_id, steward in list(self._stewards.items()):
            if said := self._said.get(project_id):
                steward.remember(*said)
            self._step(steward, commands.get(project_id, []), now)
        return self._until_next(now)

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                wait = self.tick(self._clock())
            except StoreError as error:
                log.error("the store cannot be read or written", reason=str(error))
                wait = _ACTIVE_SECONDS
            except Exception:  # a slip of ours about one project must not end the thread that serves them all
                log.exception("a tick failed unexpectedly")
                wait = _IDLE_SECONDS
            self._wake.wait(wait)
            self._wake.clear()

    def _read(self) -> None:
        """The state that outlived the last process."""
        newest: dict[int, Project] = {}
        for project in self._tools.registry.projects():
            known = newest.get(project.id)
            if known is None or known.created_at < project.created_at:
                newest[project.id] = project
        for project in newest.values():
            self._adopt(project)
        self._tools.board.ready.set()
        log.info("ready", projects=len(newest))

    def _adopt(self, project: Project) -> None:
        steward = Steward(project, self._tools)
        steward.begin()
        self._stewards[project.id] = steward
        self._unknown.pop(project.id, None)

    def _hear(self, now: float) -> None:
        while self._events:
            project_id, action, at = self._events.popleft()
            steward = self._stewards.get(project_id)
            if steward:
                steward.hear(action, min(at, now))
            else:
                self._unknown.setdefault(project_id, Backoff())

    def _commands(self) -> dict[int, list[Command]]:
        found: dict[int, list[Command]] = {}
        for command in self._tools.inbox.commands():
            found.setdefault(command.project_id, []).append(command)
        return found

    def _open(self, project_id: int, now: float) -> None:
        """Get to know a project that Label Studio has told of."""
        backoff = self._unknown.setdefault(project_id, Backoff())
        if now < backoff.until:
            return
        try:
            project, _ = self._label_studio.project(project_id)
            self._tools.registry.write_project(project)
            self._adopt(project)
            log.info("a project", project=project_id, key=project.key)
        except Missing as error:
            self._forget(project_id, str(error))
        except FitloopError as error:
            delay = backoff.failed(now)
            nameless = Project(f"{project_id}-unknown", project_id, f"Project {project_id}", "", "", "")
            self._tools.board.put(ProjectView(nameless, problem=str(error)))
            log.warning(
                "a project cannot be read", project=project_id, reason=str(error), retry_seconds=delay
            )

    def _step(self, steward: Steward, commands: list[Command], now: float) -> None:
        project_id = steward.project.id
        trouble = self._trouble.setdefault(project_id, Backoff(first=0.5))
        if now < trouble.until:
            return
        try:
            steward.step(commands, now)
            trouble.worked()
            steward.problems["store"] = ""
        except Missing as error:
            self._forget(project_id, str(error))
            if isinstance(error, Reborn):
                self._unknown[project_id] = Backoff()
        except FitloopError as error:
            delay = trouble.failed(now)
            log.error("a project's step failed", project=project_id, reason=str(error), retry_seconds=delay)
            self._begin_anew(steward, str(error))

    def _begin_anew(self, steward: Steward, problem: str) -> None:
        """What was half written may be there all the same: only the store knows."""
        anew = steward.anew(problem)
        self._stewards[steward.project.id] = anew
        try:
            anew.begin()
        except FitloopError as error:
            log.error(
                "a project cannot be read from the store", project=steward.project.id, reason=str(error)
            )

    def _forget(self, project_id: int, reason: str) -> None:
        """Label Studio no longer has it, or hides it. What was learnt stays in the store."""
        log.warning("a project is gone", project=project_id, reason=reason)
        self._stewards.pop(project_id, None)
        self._unknown.pop(project_id, None)
        self._tools.board.drop(project_id)
        for command in self._commands().get(project_id, []):
            self._tools.inbox.done(command.id)

    def _is_current(self, job: Job) -> bool:
        view = self._tools.board.view(job.project_id)
        return view is not None and (view.project.key, view.served.current) == (job.project_key, job.version)

    def _until_next(self, now: float) -> float:
        stewards = self._stewards.values()
        if any(steward.is_busy for steward in stewards) or any(
            item.until > now for item in self._trouble.values()
        ):
            return _ACTIVE_SECONDS
        due = [steward.planner.due_at() for steward in stewards] + [
            item.until for item in self._unknown.values()
        ]
        return max(0.0, min([_IDLE_SECONDS, *(at - now for at in due)]))
