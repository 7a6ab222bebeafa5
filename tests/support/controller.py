"""A controller with a fake Label Studio, launcher, inference and rollout, at a time that tests set."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import Any

from services.adapter.follower import Follower
from services.adapter.leader.controller import Controller
from services.adapter.replica import Replica
from services.adapter.state.board import Board, ProjectView
from services.adapter.state.events import EventBuffer
from services.core import documents
from services.core.domain import (
    FROM_LABEL_NAMES,
    NOT_EVALUATED,
    Action,
    Artefact,
    Command,
    Estimate,
    ExpectedAccuracy,
    GateDecision,
    Lineage,
    Manifest,
    Method,
    Project,
    Published,
    RunRequest,
    RunState,
    RunStatus,
    Snapshot,
)
from services.core.errors import EngineError
from services.core.inbox import Inbox, command_id
from services.core.labels import parse_label_space, signature
from services.core.registry import Registry
from services.core.runs import Runs, version_name
from services.core.settings import Settings, StorageSettings, TrainingSettings, TriggerSettings
from tests.support.fakes import FakeInference, FakeLauncher, FakeLeadership, FakeRollout
from tests.support.labelstudio import LABELS, START, URL, FakeLabelStudio
from tests.support.store import MemoryStore
from tests.support.workers import InlineWorkers


def build_settings(**trigger: Any) -> Settings:
    given = {
        "every_n_updates": 6,
        "debounce_seconds": 2.0,
        "reconcile_seconds": 15.0,
        "reconcile_max_seconds": 15.0,
        "embed_seconds": 0.0,
        "cold_start": False,
        **trigger,
    }
    return Settings(
        trigger=TriggerSettings(**given),
        training=TrainingSettings(base_model="tiny"),
        storage=StorageSettings(keep_versions=2, keep_days=0.0, keep_runs_days=1.0),
    )


class ControllerWorld:
    """A controller and everything it talks to; `now` is set by tests."""

    def __init__(self, chosen: Settings | None = None) -> None:
        self.settings = chosen or build_settings()
        self.now = START
        self.store = MemoryStore()
        self.leader_store = MemoryStore(self.store.data)
        """The leader's client of the same data: its writes may be made to fail, others' do not."""
        self.registry, self.runs, self.inbox = Registry(self.store), Runs(self.store), Inbox(self.store)
        self.label_studio = FakeLabelStudio()
        self.launcher = FakeLauncher(self.store)
        self.inference = FakeInference(LABELS, row=(0.7, 0.2, 0.1))
        self.rollout = FakeRollout()
        self.restart()

    @classmethod
    def connected(cls) -> ControllerWorld:
        """Build a world with a connected project without labels."""
        made = cls()
        made.connect()
        return made

    @classmethod
    def serving(cls) -> ControllerWorld:
        """Build a world with a project that serves support-1, trained on 6 labels."""
        made = cls.connected()
        made.label_studio.label_many(6)
        made.settle()
        made.complete_run("1-1")
        assert made.current == "support-1"
        return made

    def restart(self) -> None:
        """Replace the process: only the store survives."""
        self.launcher.close()
        self.board, self.wakeup = Board(), threading.Event()
        self.events = EventBuffer(self.leader_store, self.wakeup.set, clock=self.clock)
        self.controller = self.build_controller()

    def clock(self) -> float:
        """Return the current time of the test."""
        return self.now

    def build_controller(self, **options: Any) -> Controller:
        """Build the controller of a new term."""
        self.workers = InlineWorkers()
        return Controller(
            self.settings,
            self.leader_store,
            self.label_studio,  # type: ignore[arg-type]  # it answers all that the controller asks
            self.launcher,
            self.inference,
            self.rollout,
            self.board,
            self.events.collect,
            self.workers,
            clock=self.clock,
            **options,
        )

    def build_replica(self) -> Replica:
        """Build a replica that runs by itself, in real time."""
        self.clock = time.time  # type: ignore[method-assign]
        follower = Follower(self.leader_store, self.board, self.events)
        return Replica(FakeLeadership(), self.build_controller, follower, self.wakeup)

    def tick(self, seconds: float = 0.0) -> float:
        """Advance the time, then tick."""
        self.now += seconds
        return self.controller.tick(self.now)

    def settle(self, ticks: int = 4) -> None:
        """Tick until all polls and debounce intervals have passed."""
        for _ in range(ticks):
            self.tick(20.0)
            while self.controller.refresher.run_due_job(self.now):
                pass
        self.tick()

    def connect(self, project_id: int = 1) -> None:
        """Call /setup, as Label Studio does, for a project with three labels."""
        if project_id not in self.label_studio.labels:
            self.label_studio.add_project(project_id)
        self.events.notify(project_id, "SETUP")
        self.events.remember_setup(project_id, {}, URL)
        self.tick()

    def event(self, action: str = "ANNOTATION_CREATED", project_id: int = 1) -> None:
        self.events.notify(project_id, action)

    def command(
        self, action: Action, version: str | None = None, *, asked_by: str = "", **parameters: str
    ) -> str:
        """Submit a command as the routes do; return its id."""
        self.now += 0.001
        command = Command(command_id(self.now), 1, action, version, parameters, self.now, asked_by=asked_by)
        self.inbox.add_command(command)
        return command.id

    def train(
        self, run: str, *, promote: bool = True, compared_with: str | None = "", letter: str = ""
    ) -> str:
        """Publish a version, as the trainer does; return its name. `compared_with` "" is the served version."""
        request = self.runs.request(run)
        assert request
        project, _ = self.label_studio.project(request.project_id)
        space = parse_label_space(project.label_config, request.parameters.control)
        if compared_with == "":
            served = self.registry.serving().projects.get(project.key)
            compared_with = served.current if served else None
        version = version_name(project, request.parameters.model_name, run, letter)
        self.publish(project, version, compared_with, run, space.from_name)
        status = self.runs.status(run)
        published = (
            *(status.published if status else ()),
            Published(version, promote, f"Gate of {version}."),
        )
        self.runs.write(
            RunStatus(run, RunState.RUNNING, "linear-probe", 40, 120, seconds_left=12.0, published=published)
        )
        return version

    def take_snapshot(self, run: str) -> None:
        """Replace the labels that the run's request names by a snapshot of those there are, as in release 0.1.0."""
        del self.store.data[f"projects/{self.view.project.key}/state.json"]
        request = self.runs.request(run)
        assert request
        project, _ = self.label_studio.project(request.project_id)
        rows = self.label_studio.annotated_tasks(request.project_id)
        tasks = {str(row["id"]): sign for row in rows if (sign := signature(row["annotations"]))}
        space = parse_label_space(project.label_config, request.parameters.control)
        snapshot = Snapshot(tasks, project.label_config_hash, space.labels, self.now, space.from_name)
        self.runs.write_snapshot(run, snapshot)
        self.runs.write(replace(request, labels=None, fingerprint="of another release"))
        for key in list(self.store.keys(f"projects/{project.key}/labels/")):
            self.store.delete(key)

    def publish(
        self,
        project: Project,
        version: str,
        compared_with: str | None,
        run: str = "1-1",
        from_name: str = "",
        method: Method = Method.LINEAR_PROBE,
    ) -> None:
        """Publish a version, as a trainer would."""
        is_trained = method is not Method.ZERO_SHOT
        manifest = Manifest(
            version=version,
            project_key=project.key,
            method=method,
            labels=LABELS,
            artefact=Artefact("sentence-transformers", "torch-fp32", "", 256, 1.0),
            estimate=Estimate(120, 61, 0.42, 0.59, 0.5, "cross-fit") if is_trained else NOT_EVALUATED,
            expected=None if is_trained else ExpectedAccuracy(None, reason=FROM_LABEL_NAMES),
            gate=GateDecision(True, "first", (), compared_with),
            lineage=Lineage(
                run,
                (),
                "",
                project.label_config_hash,
                "tiny",
                "",
                "",
                TrainingSettings().parameters(),
                None,
                9,
                True,
            ),
            created_at=self.now,
            from_name=from_name,
        )
        self.store.write(f"projects/{project.key}/versions/{version}/manifest.json", documents.dump(manifest))

    def end(
        self, run: str, outcome: RunState = RunState.DONE, code: int | None = 0, message: str = ""
    ) -> None:
        """End the run's process."""
        status = self.runs.status(run) or RunStatus(run, RunState.RUNNING)
        self.runs.write(replace(status, state=outcome, message=message, exit_code=code))
        self.launcher.end(run, outcome, code, self.now)

    def complete_run(self, run: str, **options: Any) -> str:
        """Publish, end the run and let the controller see it."""
        version = self.train(run, **options)
        self.end(run)
        self.settle()
        return version

    @property
    def view(self) -> ProjectView:
        found = self.board.view(1)
        assert found
        return found

    @property
    def current(self) -> str | None:
        return self.view.served.current

    def requests(self) -> list[RunRequest]:
        """Return the requests of all runs of project 1, oldest first."""
        return [request for name in self.runs.names(1) if (request := self.runs.request(name))]


def smoke_test_error(version: str) -> EngineError:
    return EngineError(f"{version} gives other answers than its smoke test.")
