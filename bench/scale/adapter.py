"""The adapter under measurement, in a process of its own: wired as on a cluster, but for Kubernetes and the predictors.

It reads requests from stdin, a JSON object per line, and answers each with one: `lead`, `report`, `profile`.
"""

from __future__ import annotations

import cProfile
import gc
import io
import json
import pstats
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.adapter.leader.controller import Controller
from services.adapter.state.changed_projects import ChangedProjects
from services.adapter.state.documents import FencedStore
from services.cli.adapter import build_server, listen
from services.core.domain import Attempt, LaunchState, RunRequest, RunState, RunStatus
from services.core.http.connections import public_bounds, raise_file_limit
from services.core.runs import Runs
from services.core.settings import Settings
from services.core.store import ObjectStore, open_store
from services.core.store.wrapped import WrappedStore
from services.core.telemetry import logs
from services.wiring import Adapter, _build_adapter
from tests.support.fakes import FakeInference, FakeLeadership, FakeRollout

RUN_SECONDS = 3.0
_PROFILE_SECONDS = 60.0
T = TypeVar("T")


class SimulatedLauncher:
    """Runs that end well after some seconds, without a version."""

    def __init__(self, store: ObjectStore) -> None:
        self.runs = Runs(store)
        self.states: dict[str, LaunchState] = {}

    def launch(self, request: RunRequest) -> None:
        if request.run not in self.states and self.runs.launch_state(request.run) is None:
            self._write(LaunchState(request.run, (Attempt(1, time.time()),)))

    def cancel(self, run: str) -> None:
        self._write(LaunchState(run, (Attempt(1, time.time(), time.time()),), RunState.CANCELLED))

    def observe(self, run: str) -> LaunchState | None:
        state = self.states.get(run)
        if state is None:
            return self.runs.launch_state(run)
        began, now = state.attempts[0].started_at, time.time()
        if state.outcome is None and now > began + RUN_SECONDS:
            self.runs.write(RunStatus(run, RunState.DONE, exit_code=0, updated_at=now))
            self._write(LaunchState(run, (Attempt(1, began, now, 0),), RunState.DONE))
        return self.states[run]

    def close(self) -> None:
        pass

    def _write(self, state: LaunchState) -> None:
        self.runs.write(state)
        self.states[state.run] = state


class TimedStore(WrappedStore):
    """Notes when serving.json was read."""

    def __init__(self, store: ObjectStore, readings: list[float]) -> None:
        super().__init__(store)
        self.readings = readings

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        found = super().read_changed(key, mark)
        if key == "serving.json":
            self.readings.append(time.time())
        return found


@dataclass
class Probe:
    """What is measured inside the process."""

    projects: int
    labels: int
    led_at: float = 0.0
    ticks: list[tuple[float, float]] = field(default_factory=list)
    """When each tick of the controller ended, and its seconds."""
    readings: list[float] = field(default_factory=list)
    """When serving.json was read."""
    complete_at: float = 0.0
    """When the state of all projects had been read."""
    labels_at: float = 0.0
    """When the labels of all projects had been read."""
    problems: int = 0
    """Projects whose view has a problem."""
    profile: cProfile.Profile | None = None
    is_profiling: bool = False
    is_ticking: bool = False

    def watch(self) -> None:
        """Time every tick of a controller."""
        plain = Controller.tick

        def tick(controller: Controller, now: float) -> float:
            began, self.is_ticking = time.perf_counter(), True
            profile = self.profile if self.is_profiling else None
            if profile:
                profile.enable()
            try:
                return plain(controller, now)
            finally:
                if profile:
                    profile.disable()
                self.is_ticking = False
                self.ticks.append((time.time(), time.perf_counter() - began))
                self.look(controller)

        Controller.tick = tick  # type: ignore[method-assign,assignment]  # what is measured is the real one

    def look(self, controller: Controller) -> None:
        views = controller._context.board.views.values()  # noqa: SLF001  # measured from outside
        self.problems = sum(bool(view.problem) for view in views)
        if not self.complete_at and self.is_complete(controller):
            self.complete_at = time.time()
        is_read = all(view.checked_at >= self.led_at and view.labelled >= self.labels for view in views)
        if self.complete_at and not self.labels_at and is_read:
            self.labels_at = time.time()

    def is_complete(self, controller: Controller) -> bool:
        """Return whether the state of all projects has been read."""
        return len(controller.projects.reconcilers) >= self.projects and controller.projects.is_complete

    def report(self) -> dict[str, Any]:
        found = {
            "led_at": self.led_at,
            "ticks": self.ticks,
            "readings": list(self.readings),
            "complete_at": self.complete_at,
            "labels_at": self.labels_at,
            "problems": self.problems,
            "threads": threading.active_count(),
            "cpu": time.process_time(),
        }
        self.ticks = []
        self.readings.clear()
        return found

    def profiled(self, lines: int = 45) -> str:
        """Return what took the time of the leader's thread; "" while its tick does not end."""
        end = time.monotonic() + _PROFILE_SECONDS
        while self.is_ticking and time.monotonic() < end:
            time.sleep(0.01)
        if self.profile is None or self.is_ticking:
            return ""
        text = io.StringIO()
        stats = pstats.Stats(self.profile, stream=text)
        stats.sort_stats("cumulative").print_stats(lines)
        stats.sort_stats("tottime").print_stats(lines)
        self.profile = None
        return text.getvalue()


def build(settings: Settings, probe: Probe, leadership: FakeLeadership) -> Adapter:
    store = TimedStore(open_store(settings.storage.store, settings.s3, settings.storage), probe.readings)
    fenced = FencedStore(store, leadership, settings.s3.write_seconds)
    return _build_adapter(
        settings,
        store,
        fenced,
        wakeup := threading.Event(),
        ChangedProjects(wakeup.set),
        launcher=SimulatedLauncher(fenced),
        inference=FakeInference(),
        observers=[],
        rollout=FakeRollout,
        leadership=leadership,
        close_inference=lambda: None,
        is_alone=False,
    )


def answer_requests(probe: Probe, leadership: FakeLeadership) -> None:
    """Answer the requests on stdin until it ends."""

    def lead() -> object:
        probe.led_at, leadership.is_leader = time.time(), True
        assert leadership.on_change
        leadership.on_change()
        return probe.led_at

    def profile() -> object:
        probe.is_profiling = not probe.is_profiling
        if probe.is_profiling:
            probe.profile = cProfile.Profile()
            return ""
        return probe.profiled()

    known: dict[str, Callable[[], object]] = {"lead": lead, "report": probe.report, "profile": profile}
    for line in sys.stdin:
        print(json.dumps(known[line.strip()]()), flush=True)


def main() -> None:
    port, projects, labels = map(int, sys.argv[1:4])
    settings = Settings.load()
    files = raise_file_limit()
    logs.configure(settings.logging, hidden=settings.secrets())
    probe, leadership = Probe(projects, labels), FakeLeadership(is_leader=False)
    probe.watch()
    parts = build(settings, probe, leadership)
    server = build_server(parts.app, public_bounds(files), 1)
    parts.start()
    gc.collect()
    gc.freeze()
    threading.Thread(target=answer_requests, args=(probe, leadership), daemon=True).start()
    server.run([listen("127.0.0.1", port)])
    parts.stop()


if __name__ == "__main__":
    main()
