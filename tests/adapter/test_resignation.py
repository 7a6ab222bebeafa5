"""Replicas that compete for a real Lease in memory: one that can do the leader's work leads."""

from __future__ import annotations

import contextlib
import threading
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.adapter.leader.controller import Controller
from services.cluster.client import ClusterError
from services.cluster.lease import RETRY_SECONDS
from services.core.domain import Action
from services.core.errors import StoreUnreachable
from services.core.serving_table import SERVING_KEY
from tests.support.controller import ControllerWorld
from tests.support.lease import Candidate
from tests.support.metrics import metric_value
from tests.support.replicas import SimulatedReplica
from tests.support.waiting import eventually

AWAY = StoreUnreachable("The bucket does not answer.")


class Contender:
    """A replica and its candidate for the lease."""

    def __init__(self, world: ControllerWorld, shared: dict[str, Any], name: str) -> None:
        self.candidate = Candidate(shared, name, clock=world.clock)
        self.lease = self.candidate.lease
        self.replica = SimulatedReplica(world, candidate=self.lease)
        self.terms = 0
        self._was_leading = False

    @property
    def leads(self) -> bool:
        return self.lease.leads()

    @property
    def works(self) -> bool:
        """Whether it has a controller whose state is read."""
        return self.leads and self.replica.board.is_leader

    def set_bucket(self, away: StoreUnreachable | None) -> None:
        self.replica.plain_store.away = self.replica.recording_store.away = away

    def turn(self) -> None:
        with contextlib.suppress(ClusterError):
            self.lease.acquire_or_renew()
        self.terms += self.leads and not self._was_leading
        self._was_leading = self.leads
        with contextlib.suppress(ZeroDivisionError):
            self.replica.tick()


class Contest:
    """Replicas of one release on one bucket. Project 1 is connected, and `a` leads."""

    def __init__(self, names: str = "ab") -> None:
        self.world = ControllerWorld()
        self.shared: dict[str, Any] = {"lease": None, "version": 0}
        self.replicas = [Contender(self.world, self.shared, name) for name in names]
        self.first = self.replicas[0]
        self.advance(2)
        self.world.label_studio.add_project()
        self.first.replica.events.notify(1, "SETUP")
        self.advance(4)
        assert self.first.works

    def advance(self, seconds: float) -> None:
        for _ in range(int(seconds / RETRY_SECONDS)):
            self.world.now += RETRY_SECONDS
            for one in self.replicas:
                one.turn()
            assert sum(one.leads for one in self.replicas) <= 1

    def seconds_until_one_works(self, most: float = 600.0) -> float:
        began = self.world.now
        while not any(one.works for one in self.replicas):
            self.advance(RETRY_SECONDS)
            assert self.world.now - began <= most
        return self.world.now - began


def test_replica_that_reaches_the_bucket_takes_over() -> None:
    contest = Contest()
    first, second = contest.replicas
    first.set_bucket(AWAY)
    with capture_logs() as lines:
        contest.advance(18)
        assert not first.leads
    assert [
        (line["reason"], line["retry_seconds"]) for line in lines if line["event"] == "leader_resigned"
    ] == [(str(AWAY), 30.0)]
    contest.advance(16)
    assert second.works
    contest.world.command(Action.PAUSE)
    contest.advance(4)
    assert second.replica.view.paused
    contest.advance(600)
    assert (first.terms, second.terms) == (1, 1)


def test_board_is_served_by_the_replica_that_resigned() -> None:
    contest = Contest("a")
    before = contest.first.replica.view
    contest.first.set_bucket(AWAY)
    contest.advance(20)
    assert not contest.first.leads
    assert contest.first.replica.view == before
    assert contest.first.replica.board.store_problem == str(AWAY)


def test_short_outage_changes_no_leader() -> None:
    contest = Contest()
    for one in contest.replicas:
        one.set_bucket(AWAY)
    contest.advance(12)
    for one in contest.replicas:
        one.set_bucket(None)
    contest.advance(60)
    assert contest.first.works
    assert [one.terms for one in contest.replicas] == [1, 0]


@pytest.mark.parametrize("names", ["a", "ab", "abc"])
def test_outage_of_all_replicas_ends_soon_after_it(names: str) -> None:
    contest = Contest(names)
    for one in contest.replicas:
        one.set_bucket(AWAY)
    contest.advance(1200)
    terms = [one.terms for one in contest.replicas]
    assert all(count <= 8 for count in terms), "they do not resign in circles"
    for one in contest.replicas:
        one.set_bucket(None)
    assert contest.seconds_until_one_works() <= 260
    contest.advance(60)
    assert sum(one.works for one in contest.replicas) == 1


def test_metric_says_that_no_replica_works() -> None:
    contest = Contest("a")
    assert metric_value("fitloop_leader") == 1
    contest.first.set_bucket(AWAY)
    for _ in range(120):
        contest.advance(RETRY_SECONDS)
        assert metric_value("fitloop_leader") == 0
    contest.first.set_bucket(None)
    contest.seconds_until_one_works()
    contest.advance(2)
    assert metric_value("fitloop_leader") == 1


def test_table_of_a_newer_release_is_left_to_a_newer_replica() -> None:
    contest = Contest()
    kept = contest.world.store.data[SERVING_KEY]
    contest.world.store.data[SERVING_KEY] = b'{"format": 2}'
    newer = Candidate(contest.shared, "newer", clock=contest.world.clock)
    seconds = 0.0
    while not newer.turn():
        contest.advance(RETRY_SECONDS)
        seconds += RETRY_SECONDS
    assert seconds <= 80
    assert contest.first.terms == 1
    newer.lease.stop()
    contest.advance(60)
    assert contest.world.store.data[SERVING_KEY] == b'{"format": 2}'
    contest.world.store.data[SERVING_KEY] = kept
    assert contest.seconds_until_one_works() <= 260


def test_unreadable_table_keeps_what_is_served() -> None:
    """The first replica has read the table before it led, when nothing was served."""
    contest = Contest()
    first, second = contest.replicas
    contest.world.label_studio.label_many(6)
    contest.advance(30)
    contest.world.train("1-1")
    contest.world.end("1-1")
    contest.advance(30)
    assert (first.replica.served_version, second.replica.served_version) == ("support-1", "support-1")
    contest.world.store.data[SERVING_KEY] = b'{"format": 2}'
    for _ in range(60):
        contest.advance(4)
        assert (first.replica.served_version, second.replica.served_version) == ("support-1", "support-1")


def test_bug_in_the_leader_is_left_to_another_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    contest = Contest()
    first, second = contest.replicas
    controller = first.replica.replica.controller

    def fails(_: float) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(controller, "tick", fails)
    contest.advance(40)
    assert second.works
    assert (first.terms, second.terms) == (1, 1)


def test_thread_that_hangs_loses_the_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread hangs in a request that never ends, and another thread renews the lease."""
    world, shared = ControllerWorld(), dict[str, Any](lease=None, version=0)
    first = Contender(world, shared, "a")
    heart = first.replica.fenced_store.heartbeat
    monkeypatch.setattr(heart, "_clock", world.clock)
    replica = first.replica.replica
    monkeypatch.setattr(first.lease, "is_working", replica._is_working)
    hangs, released = threading.Event(), threading.Event()
    tick = Controller.tick

    def hang(controller: Controller, now: float) -> float:
        hangs.set()
        assert released.wait(30)
        return tick(controller, now)

    first.turn()
    assert first.works
    monkeypatch.setattr(Controller, "tick", hang)
    thread = threading.Thread(target=first.replica.tick)
    thread.start()
    assert hangs.wait(10)
    second = Candidate(shared, "b", clock=world.clock)
    for _ in range(10):
        world.now += RETRY_SECONDS
        first.candidate.turn()
        second.turn()
    assert not first.leads
    replica._lead_changed()  # as the lease's thread does
    assert metric_value("fitloop_leader") == 0
    assert not first.replica.board.is_leader
    for _ in range(8):
        world.now += RETRY_SECONDS
        first.candidate.turn()
        second.turn()
    assert second.lease.leads()
    released.set()
    thread.join(10)
    assert not first.replica.recording_store.unfenced_changes
    first.replica.tick()
    assert replica.controller is None
    eventually(lambda: not thread.is_alive())
