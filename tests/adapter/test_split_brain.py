"""The lead changes between any two changes of the store: never do both replicas write, and nothing is lost or done twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.adapter.ports import RolloutStatus
from services.core.domain import Action, RunState
from tests.support.replicas import ReplicaPair, SimulatedReplica
from tests.support.store import Killed

LEADERS = st.sampled_from([0, 1, None])


@dataclass
class LeadSwitch:
    """Moves the lead after so many changes of the leader."""

    pair: ReplicaPair
    after: int
    to: int | None
    seen: int = field(default=0)

    def __call__(self) -> None:
        self.seen += 1
        if self.seen == self.after:
            for number, replica in enumerate((self.pair.first, self.pair.second)):
                replica.leadership.is_leader = number == self.to
                replica.recording_store.after_change = None


def lead(pair: ReplicaPair, number: int | None) -> None:
    for index, replica in enumerate((pair.first, pair.second)):
        replica.leadership.is_leader = index == number


def step(pair: ReplicaPair, replica: SimulatedReplica, number: int) -> None:
    world = pair.world
    if number == 0:
        world.label_studio.label_many(3)
        replica.events.notify(1, "ANNOTATION_CREATED")
    elif number == 1:
        world.command(Action.TRAIN)
    elif number == 2:
        world.command(Action.ROLLBACK)
    elif number == 3:
        world.command(Action.UNPIN)
    elif number == 4:
        run_ends(pair)
    elif number == 5:
        slow = world.rollout.slow
        for name in (f"support-{one}" for one in range(1, 9)):
            slow.pop(name, None) or slow.update({name: RolloutStatus(done=False, reason="1 of 2 hold it")})


def run_ends(pair: ReplicaPair) -> None:
    for name in pair.world.runs.names(1):
        launch = pair.world.runs.launch_state(name)
        if launch is None or launch.outcome is None:
            pair.world.train(name)
            pair.world.end(name)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(
        st.tuples(
            st.integers(0, 5), st.booleans(), st.integers(1, 8), LEADERS, st.sampled_from([0.5, 4.0, 16.0])
        ),
        min_size=3,
        max_size=25,
    )
)
def test_two_replicas_never_both_write(
    story: list[tuple[int, bool, int, int | None, float]],
) -> None:
    pair = ReplicaPair()
    pair.connect()
    for what, by_second, after, to, seconds in story:
        step(pair, pair.second if by_second else pair.first, what)
        switch = LeadSwitch(pair, after, to)
        for replica in (pair.first, pair.second):
            replica.recording_store.after_change = switch
        pair.advance(seconds, 2)
        _check(pair)
    _ends_well(pair)


def _check(pair: ReplicaPair) -> None:
    assert pair.first.recording_store.unfenced_changes == pair.second.recording_store.unfenced_changes == []
    active = [
        name
        for name in pair.world.runs.names(1)
        if (found := pair.world.runs.launch_state(name)) is None or found.outcome is None
    ]
    assert len(active) <= 1


def _ends_well(pair: ReplicaPair) -> None:
    for replica in (pair.first, pair.second):
        replica.recording_store.after_change = None
    lead(pair, 1)
    pair.world.rollout.slow.clear()
    for _ in range(8):
        run_ends(pair)
        pair.advance(30.0, 3)
    assert (
        pair.world.inbox.commands() == []
        or "waiting" in pair.second.view.sentence
        or pair.second.view.labelled < 6
    )
    assert pair.first.served_version == pair.second.served_version
    assert pair.second.view.served.target is None
    answered = Counter(command for request in pair.world.requests() for command in request.commands)
    assert all(times == 1 for times in answered.values())
    for name in pair.world.runs.names(1):
        launch = pair.world.runs.launch_state(name)
        assert launch
        assert launch.outcome is RunState.DONE


def whole_story(pair: ReplicaPair) -> None:
    """Connect, label, train, promote, roll back, train again; the last command waits until somebody leads."""
    world = pair.world
    world.label_studio.add_project()
    pair.second.events.notify(1, "SETUP")
    pair.advance(4.0, 3)
    world.label_studio.label_many(6)
    for _ in range(6):
        run_ends(pair)
        pair.advance(20.0, 2)
    world.label_studio.label_many(6)
    for _ in range(6):
        run_ends(pair)
        pair.advance(20.0, 2)
    world.command(Action.ROLLBACK)
    pair.advance(20.0, 3)


def _result(pair: ReplicaPair) -> object:
    (served,) = pair.world.registry.serving().projects.values()
    launches = [(name, pair.world.runs.launch_state(name)) for name in pair.world.runs.names(1)]
    outcomes = [key for key in sorted(pair.world.store.data) if "/verdicts/" in key]
    return (
        (served.current, served.previous, served.target, served.pinned),
        [(name, launch.outcome if launch else None) for name, launch in launches],
        outcomes,
        pair.world.inbox.commands(),
    )


class _Frozen:
    """Takes the lead from the first replica within its n-th change, and gives it to the second; the first comes back late."""

    def __init__(self, pair: ReplicaPair, after: int) -> None:
        self.pair, self.after, self.seen = pair, after, 0

    def __call__(self) -> None:
        self.seen += 1
        if self.seen == self.after:
            self.pair.hand_over()


class _MortalPair(ReplicaPair):
    """The first replica may be killed; a new process that follows takes its place, and the second one leads."""

    def advance(self, seconds: float = 0.0, ticks: int = 1) -> None:
        for _ in range(ticks):
            try:
                super().advance(seconds)
            except Killed:
                self.first = SimulatedReplica(self.world)
                self.second.leadership.is_leader = True


@pytest.mark.parametrize("after", [False, True], ids=["before the change", "after it"])
def test_leader_killed_in_any_step_of_a_whole_story(after: bool) -> None:
    undisturbed = ReplicaPair()
    whole_story(undisturbed)
    expected = _result(undisturbed)
    for change in range(1, 200):
        pair = _MortalPair()
        store = pair.first.recording_store
        store.fail_at, store.after = change, after
        whole_story(pair)
        _check(pair)
        assert _result(pair) == expected, f"killed at change {change}"
        if store.changes < change:
            assert change > 20
            return
    raise AssertionError("the story never came to its end")


def test_leader_frozen_in_any_step_of_a_whole_story() -> None:
    undisturbed = ReplicaPair()
    whole_story(undisturbed)
    expected = _result(undisturbed)
    for change in range(1, 200):
        pair = ReplicaPair()
        frozen = _Frozen(pair, change)
        pair.first.recording_store.after_change = frozen
        whole_story(pair)
        _check(pair)
        assert _result(pair) == expected, f"frozen at change {change}"
        if frozen.seen < change:
            assert change > 20
            return
    raise AssertionError("the story never came to its end")
