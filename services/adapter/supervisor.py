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

from services.adapter import metrics
from services.adapter.arrivals import Arrivals
from services.adapter.board import Board, ProjectView
from services.adapter.planner import Reborn
from services.adapter.ports import Inference, Launcher
from services.adapter.refresh import Job, Refresher
from services.adapter.retention import Retention
from services.adapter.rollout import Rollout
from services.adapter.slips import sentence, slip
from services.adapter.steward import Steward, Tools
from services.adapter.turns import Turns
from services.adapter.watch import Backoff
from services.core.domain import Action, Command, Project
from services.core.errors import FitloopError, LabelStudioUnreachable, StoreError
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
            turns=Turns(settings.trigger.max_active_runs),
            board=board,
        )
        self._clock = clock
        self._events: deque[tuple[int, str, float]] = deque()
        self._said: dict[int, tuple[Mapping[str, str] | None, str]] = {}
        self._stewards: dict[int, Steward] = {}
        self._arrivals = Arrivals()
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

    def remember(self, project_id: int, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        """Keep what /setup said: run parameters (None: nothing), and the URL by which Label Studio reached us."""
        known = self._said.get(project_id, (None, ""))
        said = (known[0] if overrides is None else dict(overrides), seen_url)
        if known != said:
            if len(self._said) >= _SAID:
                self._said.clear()
            self._said[project_id] = said
            self.wake()

    def tick(self, now: float) -> float:
        """Do all that is due; the seconds until the next tick is."""
        if not self._tools.board.ready.is_set():
            self._read()
        self._hear(now)
        commands = self._commands()
        self._arrivals.ask(commands.keys() - self._stewards.keys(), now)
        for project_id in self._arrivals.due(now):
            if not self._open(project_id, commands.get(project_id, []), now):
                break
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
            except Exception as error:  # noqa: BLE001  # a slip of ours must not end the thread that serves all projects
                log.error("a tick failed unexpectedly", **slip(error))  # not `exception`: see slips
                wait = _IDLE_SECONDS
            self._wake.wait(wait)
            self._wake.clear()

    def _read(self) -> None:
        """The state that outlived the last process. A project that cannot be read is shown so, and tried again."""
        self._tools.registry.serving()  # raises: without the table, nothing may be said of any project
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
        self._begin(Steward(project, self._tools))
        self._arrivals.arrived(project.id)

    def _hear(self, now: float) -> None:
        while self._events:
            project_id, action, at = self._events.popleft()
            steward = self._stewards.get(project_id)
            if steward:
                steward.hear(action, min(at, now))
            else:
                self._arrivals.add(project_id)

    def _commands(self) -> dict[int, list[Command]]:
        """What waits in the inbox, by project. Of TRAINs with the same parameters the newest stands for all."""
        found: dict[int, list[Command]] = {}
        for command in self._tools.inbox.commands():
            found.setdefault(command.project_id, []).append(command)
        return {project_id: self._folded(commands) for project_id, commands in found.items()}

    def _folded(self, commands: list[Command]) -> list[Command]:
        trains = [command for command in commands if command.action is Action.TRAIN]
        newest = {tuple(sorted(command.parameters.items())): command.id for command in trains}
        spare = {command.id for command in trains} - set(newest.values())
        for command_id in spare:
            self._tools.inbox.done(command_id)
        return [command for command in commands if command.id not in spare]

    def _open(self, project_id: int, commands: list[Command], now: float) -> bool:
        """Get to know a project that Label Studio has told of; whether Label Studio answers."""
        try:
            project, _ = self._label_studio.project(project_id)
            self._tools.registry.write_project(project)
            self._adopt(project)
            log.info("a project", project=project_id, key=project.key)
        except Missing as error:
            self._arrivals.failed(project_id, now, missing=True)
            if self._arrivals.is_missing(project_id):
                if not self._arrivals.was_known(project_id):
                    self._drop(commands)
                self._forget(project_id, str(error))
        except FitloopError as error:
            self._not_opened(project_id, str(error), now)
            return not isinstance(error, LabelStudioUnreachable)
        except Exception as error:  # noqa: BLE001  # a slip of ours about one project must not keep the others waiting
            log.error("a project cannot be read", project=project_id, **slip(error))
            self._not_opened(project_id, sentence(error), now)
        return True

    def _not_opened(self, project_id: int, problem: str, now: float) -> None:
        delay = self._arrivals.failed(project_id, now)
        nameless = Project(f"{project_id}-unknown", project_id, f"Project {project_id}", "", "", "")
        self._tools.board.put(ProjectView(nameless, problem=problem))
        log.warning("a project cannot be read", project=project_id, reason=problem, retry_seconds=delay)

    def _step(self, steward: Steward, commands: list[Command], now: float) -> None:
        project_id = steward.project.id
        trouble = self._trouble.setdefault(project_id, Backoff(first=0.5))
        if now < trouble.until:
            return
        try:
            steward.step(commands, now)
            trouble.worked()
            steward.problems["store"] = ""
        except Reborn as error:
            self._drop(commands)  # they were meant for the project that had the number before
            self._forget(project_id, str(error))
            self._arrivals.add(project_id)
        except Missing as error:
            self._forget(project_id, str(error))
            self._arrivals.lost(project_id, now)
        except FitloopError as error:
            self._failed(steward, str(error), now)
        except Exception as error:  # noqa: BLE001  # a slip of ours about one project must not keep the others waiting
            log.error(
                "a project's step failed", project=project_id, **slip(error)
            )  # not `exception`: see slips
            self._failed(steward, sentence(error), now)

    def _failed(self, steward: Steward, problem: str, now: float) -> None:
        """What was half written may be there all the same: only the store knows."""
        delay = self._trouble[steward.project.id].failed(now)
        log.error("a step failed", project=steward.project.id, reason=problem, retry_seconds=delay)
        self._tools.turns.give_up(steward.project.id)
        self._begin(steward.anew(problem))

    def _begin(self, steward: Steward) -> None:
        """Look after the project; where it cannot be read, that is shown, and the next step tries again."""
        self._stewards[steward.project.id] = steward
        try:
            steward.begin()
        except FitloopError as error:
            log.error(
                "a project cannot be read from the store", project=steward.project.id, reason=str(error)
            )
            steward.cannot(str(error))
        except Exception as error:  # noqa: BLE001  # a slip of ours about one project must not keep the others waiting
            log.error("a project cannot be read from the store", project=steward.project.id, **slip(error))
            steward.cannot(sentence(error))

    def _forget(self, project_id: int, reason: str) -> None:
        """Label Studio no longer has it, or hides it. What was learnt and asked for stays in the store."""
        log.warning("a project is gone", project=project_id, reason=reason)
        self._stewards.pop(project_id, None)
        self._trouble.pop(project_id, None)
        self._arrivals.leave(project_id)
        self._tools.turns.leave(project_id)
        self._tools.board.drop(project_id)
        metrics.serves(project_id, None)

    def _drop(self, commands: list[Command]) -> None:
        for command in commands:
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
        due = [steward.planner.due_at() for steward in stewards] + self._arrivals.next_at()
        return max(0.0, min([_IDLE_SECONDS, *(at - now for at in due)]))
