"""The controller is killed between any two changes of the store; another one continues, and the result is the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.adapter.state.project_state import RunRecord
from services.adapter.training.runs import as_ended
from services.adapter.training.trigger import PERMANENT_FAILURES
from services.core.domain import Action, LabelState, RunState
from services.core.errors import LabelStudioUnreachable, StoreError
from services.core.labels import signature
from services.core.labels.index import EMPTY
from services.core.labels.segments import LabelStore
from services.core.labels.trainable import untrainable_reason
from tests.support.controller import ControllerWorld
from tests.support.store import Killed


def labels(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)


def promote(world: ControllerWorld) -> None:
    world.command(Action.PROMOTE, "support-0")


def roll_back(world: ControllerWorld) -> None:
    world.command(Action.ROLLBACK)


def unpin(world: ControllerWorld) -> None:
    world.command(Action.UNPIN)


def pause(world: ControllerWorld) -> None:
    world.command(Action.PAUSE)


def train(world: ControllerWorld) -> None:
    world.label_studio.label_many(2)
    world.command(Action.TRAIN, seed="1")
    world.command(Action.TRAIN)


def renamed(world: ControllerWorld) -> None:
    world.label_studio.labels[1] = ("card", "credit", "other")
    world.event("PROJECT_UPDATED")


def served_before() -> ControllerWorld:
    """A project that served support-0 and serves support-1."""
    world = ControllerWorld()
    world.connect()
    world.publish(world.view.project, "support-0", None)
    world.command(Action.PROMOTE, "support-0")
    world.command(Action.UNPIN)
    world.settle()
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-1")
    return world


def final_state(world: ControllerWorld) -> object:
    """Return what must not depend on when the process was killed."""
    served = world.view.served
    return (
        (served.current, served.previous, served.target, served.pinned, served.why),
        [(request.run, request.cause, request.commands != ()) for request in world.requests()],
        [key for key in sorted(world.store.data) if "/verdicts/" in key or key.startswith("inbox/")],
        world.view.paused,
        world.label_studio.backend_rows[1][0].title,
    )


@pytest.mark.parametrize("after", [False, True], ids=["before the change", "after it"])
@pytest.mark.parametrize("error", [Killed(), StoreError("The disk is full.")], ids=["killed", "disk full"])
@pytest.mark.parametrize("story", [labels, promote, roll_back, unpin, pause, train, renamed])
def test_crash_at_any_store_change_is_recovered(
    story: Callable[[ControllerWorld], None], error: BaseException, after: bool
) -> None:
    whole = served_before()
    story(whole)
    live(whole)
    expected = final_state(whole)
    for change in range(1, 40):
        world = served_before()
        world.leader_store.error, world.leader_store.after = error, after
        world.leader_store.fail_at = world.leader_store.changes + change
        story(world)
        live(world)
        assert final_state(world) == expected, f"cut off at change {change}"
        if world.leader_store.changes < world.leader_store.fail_at:
            return
    pytest.fail("the story never came to its end")


def live(world: ControllerWorld) -> None:
    """Let time pass, runs end, and restart the controller whenever it is killed."""
    for _ in range(12):
        try:
            world.settle(2)
        except Killed:
            world.restart()
        for run in world.runs.names(1):
            launch = world.launcher.observe(run)
            if launch and launch.outcome is None:
                world.train(run)
                world.end(run)


class AnyLife(RuleBasedStateMachine):
    """Events, edits, deletions, failures, restarts, kills, duplicates and delays in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.world = ControllerWorld()
        self.world.connect()

    @rule(count=st.integers(1, 7), announced=st.booleans())
    def label(self, count: int, announced: bool) -> None:
        self.world.label_studio.label_many(count)
        if announced:
            self.world.event()

    @rule(which=st.integers(0, 50), label=st.integers(0, 2))
    def edit(self, which: int, label: int) -> None:
        if tasks := list(self.world.label_studio.tasks[1]):
            self.world.label_studio.label(tasks[which % len(tasks)], self.world.label_studio.labels[1][label])

    @rule(which=st.integers(0, 50), whole=st.booleans())
    def remove(self, which: int, whole: bool) -> None:
        if tasks := list(self.world.label_studio.tasks[1]):
            task = tasks[which % len(tasks)]
            self.world.label_studio.delete_task(task) if whole else self.world.label_studio.unlabel(task)

    @rule(name=st.sampled_from(["loan", "credit", "debt"]))
    def rename(self, name: str) -> None:
        self.world.label_studio.labels[1] = ("card", name, "other")

    @rule(count=st.integers(1, 5))
    def events(self, count: int) -> None:
        for _ in range(count):
            self.world.event()

    @rule(seconds=st.sampled_from([0.0, 0.5, 3.0, 16.0, 200.0]))
    def wait(self, seconds: float) -> None:
        self.world.tick(seconds)

    @rule(action=st.sampled_from([Action.TRAIN, Action.TRAIN, Action.CANCEL, Action.ROLLBACK, Action.UNPIN]))
    def command(self, action: Action) -> None:
        self.world.command(action)

    @rule(down=st.booleans())
    def label_studio(self, down: bool) -> None:
        self.world.label_studio.down = LabelStudioUnreachable("down") if down else None

    @rule()
    def restart(self) -> None:
        self.world.restart()

    @rule(change=st.integers(1, 6), after=st.booleans())
    def killed(self, change: int, after: bool) -> None:
        store = self.world.leader_store
        store.fail_at, store.after = store.changes + change, after
        try:
            self.world.tick(3.0)
        except Killed:
            self.world.restart()
        store.fail_at = None

    @precondition(lambda self: self.active)
    @rule(code=st.sampled_from([0, 0, 0, 1, 65]), promote=st.booleans())
    def run_ends(self, code: int, promote: bool) -> None:
        down, self.world.label_studio.down = self.world.label_studio.down, None
        run = self.active[0]
        if code in {0, 1}:
            self.world.train(run, promote=promote)
        self.world.end(run, RunState.FAILED if code else RunState.DONE, code)
        self.world.label_studio.down = down

    @property
    def active(self) -> list[str]:
        found = [(name, self.world.runs.launch_state(name)) for name in self.world.runs.names(1)]
        return [name for name, launch in found if launch is None or launch.outcome is None]

    @invariant()
    def one_run_at_a_time(self) -> None:
        assert len(self.active) <= 1

    @invariant()
    def no_command_is_answered_twice(self) -> None:
        answered = Counter(command for request in self.world.requests() for command in request.commands)
        assert all(times == 1 for times in answered.values())

    @invariant()
    def no_labels_are_carried_through_twice_in_a_row(self) -> None:
        runs, launcher = self.world.runs, self.world.launcher
        records = [
            RunRecord(request, launcher.observe(request.run), runs.status(request.run))
            for request in self.world.requests()
        ]
        done = [record for record in records if as_ended(record).outcome is RunState.DONE and record.outcome]
        stale = {run for run in (record.run for record in done) if self._is_stale(run)}
        for before, after in pairwise(done):
            assert before.fingerprint != after.fingerprint or before.run in stale

    def _is_stale(self, run: str) -> bool:
        number = run.partition("-")[2]
        key = f"/verdicts/support-{number}.json"
        return any(name.endswith(key) and b'"stale"' in data for name, data in self.world.store.data.items())

    def teardown(self) -> None:
        """Once events pause, enough new labels have had their run."""
        world = self.world
        world.label_studio.down = None
        self._let_runs_end()
        if self._last_run_waits_for_labels():
            world.label_studio.label_many(1)
            self._let_runs_end()
        there = {
            number: sign
            for number, row in world.label_studio.tasks[1].items()
            if (sign := signature(row["annotations"]))
        }
        counts = world.controller.projects.reconcilers[1].planner.reading.counts  # type: ignore[union-attr]
        if untrainable_reason(counts):
            return
        taken = self._last_labels()
        index = LabelStore(world.store, world.view.project.key).load(taken) if taken else EMPTY
        before = {row.task: f"{row.signature:012x}" for row in index if row.signature}
        changed = [task for task in there.keys() | before.keys() if there.get(task) != before.get(task)]
        assert len(changed) < world.settings.trigger.every_n_updates
        assert taken is None or (
            taken.space and not set(taken.space.labels) - set(world.label_studio.labels[1])
        )
        assert not self.active
        assert world.inbox.commands() == []

    def _let_runs_end(self) -> None:
        for _ in range(12):
            for run in self.active:
                self.world.train(run)
                self.world.end(run)
            self.world.settle(2)
            self.world.tick(4_000.0)

    def _last_run_waits_for_labels(self) -> bool:
        """Return whether it failed in a way that the same labels would repeat."""
        launches = [self.world.launcher.observe(name) for name in self.world.runs.names(1)]
        last = launches[-1] if launches else None
        return bool(
            last and last.outcome is RunState.FAILED and last.attempts[-1].exit_code in PERMANENT_FAILURES
        )

    def _last_labels(self) -> LabelState | None:
        seen = [(name, self.world.launcher.observe(name)) for name in self.world.runs.names(1)]
        ended = [name for name, launch in seen if launch and launch.outcome]
        names = [name for name in ended if self._has_done_its_work(name)]
        request = self.world.runs.request(names[-1]) if names else None
        return request.labels if request else None

    def _has_done_its_work(self, name: str) -> bool:
        launch, status = self.world.launcher.observe(name), self.world.runs.status(name)
        published = bool(status and status.published)
        failed = bool(launch and launch.outcome is RunState.FAILED)
        return bool(launch and launch.outcome is RunState.DONE) or (failed and published)


TestAnyLife = AnyLife.TestCase
TestAnyLife.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
