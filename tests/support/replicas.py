"""Several replicas of the adapter on one store, each with its own board, events and store client; tests set who leads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from services.adapter.follower import Follower
from services.adapter.leader.controller import Controller
from services.adapter.ports import Leadership
from services.adapter.replica import Replica
from services.adapter.state.board import Board, ProjectView
from services.adapter.state.documents import FencedStore
from services.adapter.state.events import EventBuffer
from services.core.errors import StoreError
from services.core.settings import Settings
from tests.support.controller import ControllerWorld
from tests.support.fakes import FakeLauncher, FakeLeadership
from tests.support.store import MemoryStore
from tests.support.workers import InlineExecutor, InlineWorkers

WRITE_SECONDS = 5.0


class RecordingStore(MemoryStore):
    """Records changes made without leading, and calls `after_change`."""

    def __init__(self, data: dict[str, bytes], leadership: Leadership) -> None:
        super().__init__(data)
        self.leadership = leadership
        self.unfenced_changes: list[int] = []
        self.after_change: Callable[[], None] | None = None

    def _maybe_fail(self, *, before: bool) -> None:
        super()._maybe_fail(before=before)
        if before and not self.leadership.leads():
            self.unfenced_changes.append(self.changes)
        if not before and self.after_change:
            self.after_change()


class SimulatedReplica:
    """One replica on the world's store."""

    def __init__(
        self, world: ControllerWorld, *, leads: bool = False, candidate: Leadership | None = None
    ) -> None:
        """`candidate` decides who leads, instead of `leadership`, which tests set."""
        self.world = world
        self.leadership = FakeLeadership(is_leader=leads)
        leadership = candidate or self.leadership
        self.plain_store = MemoryStore(world.store.data)
        self.recording_store = RecordingStore(world.store.data, leadership)
        self.fenced_store = FencedStore(self.recording_store, leadership, WRITE_SECONDS)
        self.board, self.wakeup = Board(), threading.Event()
        self.launcher = FakeLauncher(self.fenced_store)
        self.events = EventBuffer(self.plain_store, self.wakeup.set, clock=self.clock)
        self.executor = InlineExecutor()
        follower = Follower(
            self.plain_store, self.board, self.events, clock=self.clock, executor=self.executor
        )
        self.replica = Replica(
            leadership,
            self._build_controller,
            follower,
            self.wakeup,
            self.clock,
            write_seconds=WRITE_SECONDS,
            heartbeat=self.fenced_store.heartbeat,
        )

    def clock(self) -> float:
        return self.world.now

    def tick(self) -> float:
        """Tick as its thread does, surviving store errors, and run due refresh jobs."""
        try:
            wait = self.replica.tick(self.world.now)
        except StoreError:
            return 0.5
        supervisor = self.replica.controller
        while supervisor and supervisor.refresher.run_due_job(self.world.now):
            pass
        return wait

    @property
    def view(self) -> ProjectView:
        found = self.board.view(1)
        assert found
        return found

    @property
    def served_version(self) -> str | None:
        """The version that /setup returns now."""
        return self.view.served.effective_version(self.world.now)

    def _build_controller(self) -> Controller:
        world = self.world
        made = Controller(
            world.settings,
            self.fenced_store,
            world.label_studio,  # type: ignore[arg-type]  # it answers all that the controller asks
            self.launcher,
            world.inference,
            world.rollout,
            self.board,
            self.events.collect,
            InlineWorkers(),
            clock=self.clock,
            alone=False,
        )
        made.start = lambda: None  # type: ignore[method-assign]  # `tick` here does the refresher's work
        return made


class ReplicaPair:
    """A leader and a follower."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.world = ControllerWorld(settings)
        self.first, self.second = SimulatedReplica(self.world, leads=True), SimulatedReplica(self.world)

    def advance(self, seconds: float = 0.0, ticks: int = 1) -> None:
        """Advance the time for both, `ticks` times."""
        for _ in range(ticks):
            self.world.now += seconds
            self.first.tick()
            self.second.tick()

    def connect(self) -> None:
        """Create project 1 in Label Studio and let the leader discover it."""
        self.world.label_studio.add_project()
        self.first.events.notify(1, "SETUP")
        self.advance(1.0, 2)

    def hand_over(self) -> None:
        """Make the second one lead."""
        self.first.leadership.is_leader, self.second.leadership.is_leader = False, True

    def serve(self) -> None:
        """Serve support-1, trained on 6 labels, for project 1."""
        self.world.label_studio.label_many(6)
        self.advance(10.0, 4)
        self.world.train("1-1")
        self.world.end("1-1")
        self.advance(10.0, 4)
        assert self.first.served_version == "support-1"
