"""The event buffer keeps notices, merged by project, until the replica's thread collects them."""

from __future__ import annotations

import pytest

from services.adapter.state.events import EventBuffer
from services.core.domain import Action, Command
from services.core.errors import StoreError
from services.core.inbox import Inbox
from services.core.notices import ChangeNotice
from tests.support.store import MemoryStore


class At:
    """An event buffer at a time that the test moves, and how often it woke the replica."""

    def __init__(self) -> None:
        self.now, self.rung = 100.0, 0
        self.store = MemoryStore()
        self.buffer = EventBuffer(self.store, self._wake, clock=lambda: self.now)

    def _wake(self) -> None:
        self.rung += 1


def test_notices_of_a_project_are_merged() -> None:
    at = At()
    for action in ("ANNOTATION_CREATED", "ANNOTATION_CREATED", "TASKS_CREATED"):
        at.buffer.notify(5, action)
        at.now += 1.0
    at.buffer.remember_setup(5, {"seed": "3"}, "http://a")
    at.buffer.remember_setup(5, None, "http://b")
    at.buffer.notify(6, "SETUP")
    five, six = at.buffer.collect()
    assert five == ChangeNotice(5, ("ANNOTATION_CREATED", "TASKS_CREATED"), {"seed": "3"}, "http://b", 103.0)
    assert six.actions == ("SETUP",)
    assert at.buffer.collect() == []
    assert at.rung == 6


def test_same_setup_data_is_passed_on_once_a_minute() -> None:
    at = At()
    for _ in range(5):
        at.buffer.remember_setup(5, {}, "http://a")
    assert at.rung == 1
    at.now += 61.0
    at.buffer.remember_setup(5, {}, "http://a")
    assert at.rung == 2


def test_buffered_projects_are_bounded() -> None:
    at = At()
    for number in range(3000):
        at.buffer.notify(number, "SETUP")
        at.buffer.remember_setup(number, {}, "http://a")
    assert len(at.buffer.collect()) == 1000


async def test_command_is_stored_before_it_is_answered() -> None:
    at = At()
    command = Command("1", 5, Action.TRAIN)
    at.store.fail_at, at.store.error = 1, StoreError("The bucket does not answer.")
    with pytest.raises(StoreError):
        await at.buffer.submit(command)
    assert at.rung == 0
    assert await at.buffer.submit(command) == "1"
    assert Inbox(at.store).commands() == [command]
    assert at.rung == 1


def test_given_back_notices_precede_later_ones() -> None:
    at = At()
    at.buffer.remember_setup(5, {"seed": "1"}, "http://a")
    collected = at.buffer.collect()
    at.now += 1.0
    at.buffer.remember_setup(5, {"seed": "2"}, "http://a")
    at.buffer.notify(6, "SETUP")
    rung = at.rung
    assert at.buffer.give_back(collected) == 0
    five, six = at.buffer.collect()
    assert (five.overrides, five.at, six.project_id) == ({"seed": "2"}, 101.0, 6)
    assert at.rung == rung, "or the replica would try again at once"


def test_given_back_notices_are_bounded() -> None:
    at = At()
    for number in range(600):
        at.buffer.notify(number, "SETUP")
    collected = at.buffer.collect()
    for number in range(400, 1100):
        at.buffer.notify(number, "TASKS_CREATED")
    assert at.buffer.give_back(collected) == 100
    found = at.buffer.collect()
    assert [notice.project_id for notice in found] == list(range(1000))
    assert found[500].actions == ("SETUP", "TASKS_CREATED")


def test_recently_taken_notices_are_requeued() -> None:
    """The replica that collected them may have lost the lease: a new project's only notice would be lost."""
    at = At()
    at.buffer.notify(5, "SETUP")
    at.buffer.collect()
    at.now += 100.0
    at.buffer.notify(6, "SETUP")
    at.buffer.collect()
    at.now += 30.0
    at.buffer.collect()  # forgets what is older than two minutes
    at.buffer.requeue_collected()
    assert [notice.project_id for notice in at.buffer.collect()] == [6]
