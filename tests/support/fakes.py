"""Fakes of the adapter's ports: event sink, inference, launcher, rollout and leadership."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from services.adapter.ports import RolloutStatus
from services.core.domain import (
    Attempt,
    Command,
    LabelSpace,
    LaunchState,
    RunRequest,
    RunState,
)
from services.core.errors import FitloopError
from services.core.runs import Runs
from services.core.store import ObjectStore
from services.engine.compute import Scores
from services.mlbackend.calls import PredictCall, TaskPredictions, named

LABELS = ("Positive", "Negative", "Neutral")
SPACE = LabelSpace("sentiment", "text", "$text", LABELS)


@dataclass
class FakeEventSink:
    """An EventSink that records calls. `submit` raises `error`."""

    notified: list[tuple[int, str]] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    remembered: dict[int, tuple[dict[str, str], str]] = field(default_factory=dict)
    error: FitloopError | None = None

    def notify(self, project_id: int, action: str) -> None:
        self.notified.append((project_id, action))

    async def submit(self, command: Command) -> str:
        if self.error:
            raise self.error
        self.commands.append(command)
        return command.id

    def remember_setup(self, project_id: int, overrides: Mapping[str, str] | None, seen_url: str) -> None:
        known, _ = self.remembered.get(project_id, ({}, ""))
        self.remembered[project_id] = (known if overrides is None else dict(overrides), seen_url)


@dataclass
class FakeInference:
    """Probabilities depend on a text's length, unless `row` (for every text) or `rows` (all of them) is set; `error` is raised."""

    labels: tuple[str, ...] = LABELS
    error: Exception | None = None
    rows: list[list[float]] | None = None
    row: tuple[float, ...] | None = None
    asked: list[tuple[str, str, tuple[str, ...]]] = field(default_factory=list)
    calls: list[tuple[str, str, PredictCall]] = field(default_factory=list)
    """Of `predict_tasks`, which answers each task whose data is not empty."""

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        await asyncio.sleep(0)
        self.asked.append((project_key, version, tuple(texts)))
        if self.error:
            raise self.error
        rows = self.rows if self.rows is not None else [self._row(text) for text in texts]
        return Scores(self.labels, np.array(rows, dtype=np.float32).reshape(len(rows), -1))

    async def predict_tasks(self, project_key: str, version: str, call: PredictCall) -> list[TaskPredictions]:
        await asyncio.sleep(0)
        self.calls.append((project_key, version, call))
        if self.error:
            raise self.error
        return [
            named([{"result": [{"value": {"text": str(task["data"])}}]}] if task["data"] else [], version)
            for task in call.tasks
        ]

    async def ready(self) -> bool:
        return self.error is None

    def _row(self, text: str) -> list[float]:
        if self.row is not None:
            return list(self.row)
        weights = np.ones(len(self.labels))
        weights[len(text) % len(self.labels)] += 3
        return [float(weight) for weight in weights / weights.sum()]


class FakeLauncher:
    """A launcher whose runs end when tests say so. Like the real one, it keeps its state in the store."""

    def __init__(self, store: ObjectStore) -> None:
        self.runs = Runs(store)
        self.launched: list[str] = []
        self.active: set[str] = set()
        self.error: FitloopError | None = None

    def launch(self, request: RunRequest) -> None:
        if self.error:
            raise self.error
        known = self.runs.launch_state(request.run)
        if (known and known.outcome) or request.run in self.active:
            return
        self.launched.append(request.run)
        self.active.add(request.run)
        self.runs.write(LaunchState(request.run, (Attempt(1, request.created_at),)))

    def cancel(self, run: str) -> None:
        self.end(run, RunState.CANCELLED, None, 0.0)

    def observe(self, run: str) -> LaunchState | None:
        return self.runs.launch_state(run)

    def close(self) -> None:
        """Stop all runs."""
        self.active.clear()

    def report_waiting(self, run: str, why: str) -> None:
        """Report that no process works on the run yet, and why."""
        self.runs.write(LaunchState(run, (), None, why))

    def end(self, run: str, outcome: RunState, code: int | None, now: float) -> None:
        """End the run's process."""
        self.runs.write(LaunchState(run, (Attempt(1, now, now, code),), outcome))


class FakeRollout:
    """Predictors that load every version at once, except those in `broken` (raise) and `slow` (return that status)."""

    def __init__(self) -> None:
        self.flip_seconds = 0.0
        self.broken: dict[str, Exception] = {}
        self.slow: dict[str, RolloutStatus] = {}
        self.asked: list[str] = []
        self.withdrawn: list[str] = []
        self.polled: list[float] = []

    def advance(self, project_key: str, version: str, now: float, encoder: str = "") -> RolloutStatus:
        del encoder
        self.asked.append(version)
        if version in self.broken:
            raise self.broken[version]
        return self.slow.get(version, RolloutStatus(done=True))

    def check(self, project_key: str, version: str) -> RolloutStatus:
        return self.advance(project_key, version, 0.0)

    def withdraw(self, project_key: str, version: str) -> None:
        self.withdrawn.append(version)

    def poll(self, now: float) -> None:
        self.polled.append(now)


class FakeLeadership:
    """A leadership that tests set; it is certain for up to `certain_seconds`."""

    def __init__(self, *, is_leader: bool = True) -> None:
        self.is_leader = is_leader
        self.certain_seconds = 15.0
        self.on_change: Callable[[], None] | None = None
        self.is_working: Callable[[], bool] | None = None
        self.resigned: list[float] = []
        """The seconds of each resignation."""

    def start(self, on_change: Callable[[], None], is_working: Callable[[], bool] = lambda: True) -> None:
        self.on_change, self.is_working = on_change, is_working

    def leads(self, seconds: float = 0.0) -> bool:
        return self.is_leader and seconds <= self.certain_seconds

    def resign(self, seconds: float) -> None:
        self.is_leader = False
        self.resigned.append(seconds)

    def stop(self) -> None:
        self.is_leader = False
