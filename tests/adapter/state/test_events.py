"""What routes leave lies at the desk, once for each project, until the member's thread comes for it."""

from __future__ import annotations

import pytest

from services.adapter.state.events import EventBuffer
from services.core.domain import Action, Command
from services.core.errors import StoreError
from services.core.inbox import ChangeNotice, Inbox
from tests.support.store import MemoryStore


class At:
    """A desk, at a time that the test moves, and how often it rang."""

    def __init__(self) -> None:
        self.now, self.rung = 100.0, 0
        self.store = MemoryStore()
        self.desk = EventBuffer(self.store, self._ring, clock=lambda: self.now)

    def _ring(self) -> None:
        self.rung += 1


def test_notices_of_a_project_are_merged() -> None:
    at = At()
    for action in ("ANNOTATION_CREATED", "ANNOTATION_CREATED", "TASKS_CREATED"):
        at.desk.notify(5, action)
        at.now += 1.0
    at.desk.remember(5, {"seed": "3"}, "http://a")
    at.desk.remember(5, None, "http://b")
    at.desk.notify(6, "SETUP")
    five, six = at.desk.collect()
    assert five == ChangeNotice(5, ("ANNOTATION_CREATED", "TASKS_CREATED"), {"seed": "3"}, "http://b", 103.0)
    assert six.actions == ("SETUP",)
    assert at.desk.collect() == []
    assert at.rung == 6


def test_same_setup_data_is_passed_on_once_a_minute() -> None:
    at = At()
    for _ in range(5):
        at.desk.remember(5, {}, "http://a")
    assert at.rung == 1
    at.now += 61.0
    at.desk.remember(5, {}, "http://a")
    assert at.rung == 2


def test_buffered_projects_are_bounded() -> None:
    at = At()
    for number in range(3000):
        at.desk.notify(number, "SETUP")
        at.desk.remember(number, {}, "http://a")
    assert len(at.desk.collect()) == 1000


def test_command_is_stored_before_it_is_answered() -> None:
    at = At()
    command = Command("1", 5, Action.TRAIN)
    at.store.fail_at, at.store.error = 1, StoreError("The bucket does not answer.")
    with pytest.raises(StoreError):
        at.desk.submit(command)
    assert at.rung == 0
    at.desk.submit(command)
    assert Inbox(at.store).commands() == [command]
    assert at.rung == 1


def test_recently_taken_notices_are_requeued() -> None:
    """Whoever took it may have lost the lead over it: a new project's only word would be gone."""
    at = At()
    at.desk.notify(5, "SETUP")
    at.desk.collect()
    at.now += 100.0
    at.desk.notify(6, "SETUP")
    at.desk.collect()
    at.now += 30.0
    at.desk.collect()  # forgets what is older than two minutes
    at.desk.requeue_taken()
    assert [hint.project_id for hint in at.desk.collect()] == [6]
