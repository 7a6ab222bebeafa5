"""Commands are stored before they are answered; TRAINs of one project without parameters share one object."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from services.adapter.state import command_writer
from services.adapter.state.command_writer import CommandWriter
from services.core.domain import Action, Command
from services.core.errors import StoreError
from services.core.inbox import Inbox, command_id
from tests.support.store import MemoryStore


class SlowStore(MemoryStore):
    """A store whose writes wait while it is `closed`; `writes` are the keys that were written."""

    def __init__(self) -> None:
        super().__init__()
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Semaphore(0)
        self.writes: list[str] = []

    def write(self, key: str, data: bytes) -> None:
        self.entered.release()
        assert self.open.wait(60)
        super().write(key, data)
        self.writes.append(key)

    async def wait_for_write(self) -> None:
        """Return once a write has begun."""
        await asyncio.to_thread(self.entered.acquire)


class At:
    """A writer over a store that tests slow down."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.store = SlowStore()
        self.inbox = Inbox(self.store)
        self.rung = 0
        self.writer = CommandWriter(self.inbox, self._wake, seconds)
        self._number = 0

    def _wake(self) -> None:
        self.rung += 1

    def train(self, project_id: int = 5, asked_by: str = "", **parameters: str) -> Command:
        self._number += 1
        at = 2.0 * self._number
        return Command(
            command_id(at), project_id, Action.TRAIN, None, parameters, created_at=at, asked_by=asked_by
        )

    def submit(self, command: Command) -> asyncio.Task[str]:
        return asyncio.create_task(self.writer.submit(command))

    async def settle(self) -> None:
        """Wait until nothing is being written or deleted."""
        while tasks := [*self.writer._writers.values(), *self.writer._deletions]:
            await asyncio.wait(tasks)
            await asyncio.sleep(0)


@pytest.fixture
async def at() -> AsyncIterator[At]:
    made = At()
    yield made
    made.store.open.set()
    await made.settle()


async def test_requests_that_come_during_a_write_share_the_next(at: At) -> None:
    at.store.open.clear()
    first = at.submit(at.train(asked_by="anna"))
    await at.store.wait_for_write()
    later = [at.train(asked_by=f"ben {number % 2}") for number in range(50)]
    waiting = [at.submit(command) for command in later]
    await asyncio.sleep(0)
    assert not any(task.done() for task in (first, *waiting))
    at.store.open.set()
    assert {await task for task in waiting} == {later[-1].id}
    assert await first != later[-1].id
    await at.settle()
    assert len(at.store.writes) == 2
    assert at.inbox.commands() == [replace(later[-1], asked_by="anna, ben 0, ben 1")]
    assert at.rung == 2


async def test_any_number_of_trains_is_one_object(at: At) -> None:
    """Of each project: the one that was stored before is replaced."""
    commands = [at.train(number % 10) for number in range(100)]
    for command in commands:
        await at.writer.submit(command)
    await at.settle()
    assert at.inbox.commands() == commands[-10:]


async def test_hundred_projects_at_once_are_all_stored(at: At) -> None:
    commands = [at.train(number) for number in range(100)]
    stored = await asyncio.gather(*(at.writer.submit(command) for command in commands))
    assert stored == [command.id for command in commands]
    assert at.inbox.commands() == commands


async def test_a_request_during_its_execution_is_not_lost(at: At) -> None:
    """The leader has read the first command, and deletes it while the second is written, or just after."""
    for deletes_late in (False, True):
        first, second = at.train(), at.train()
        await at.writer.submit(first)
        assert at.inbox.commands() == [first]
        at.store.open.clear()
        at.store.entered = threading.Semaphore(0)
        task = at.submit(second)
        await at.store.wait_for_write()
        if not deletes_late:
            at.inbox.delete_command(first.id)
        at.store.open.set()
        assert await task == second.id
        await at.settle()
        at.inbox.delete_command(first.id)
        assert at.inbox.commands() == [second]
        at.inbox.delete_command(second.id)


async def test_an_executed_commands_requester_is_not_repeated(at: At) -> None:
    first, second = at.train(asked_by="anna"), at.train(asked_by="ben")
    await at.writer.submit(first)
    at.inbox.delete_command(first.id)
    await at.writer.submit(second)
    assert at.inbox.commands() == [second]


async def test_a_stream_of_requests_is_one_write_each(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise AssertionError("It was read whether the last one still waits.")

    monkeypatch.setattr(SlowStore, "read", fails)
    for number in range(5):
        await at.writer.submit(replace(at.train(asked_by=f"person {number}"), created_at=number / 10))
    await at.settle()
    monkeypatch.undo()
    (command,) = at.inbox.commands()
    assert command.asked_by == "person 0, person 1, person 2, person 3, person 4"


async def test_commands_that_differ_are_stored_one_by_one(at: At) -> None:
    commands = [
        at.train(seed="3"),
        at.train(seed="3"),
        replace(at.train(), action=Action.CANCEL),
        replace(at.train(), action=Action.PROMOTE, version="support-1"),
        at.train(),
    ]
    with capture_logs() as lines:
        for command in commands:
            assert await at.writer.submit(replace(command, asked_by="anna")) == command.id
    assert [command.id for command in at.inbox.commands()] == [command.id for command in commands]
    assert {line["asked_by"] for line in lines if line["event"] == "command_stored"} == {"anna"}


PATIENT = 0.5
"""Seconds in which a write begins however busy the machine is."""


async def test_a_slow_store_fails_before_label_studio_gives_up() -> None:
    at = At(seconds=PATIENT)
    at.store.open.clear()
    slow = at.submit(at.train())
    with pytest.raises(StoreError, match=f"could not be stored within {PATIENT} s"):
        await slow
    assert command_writer.STORE_TIMEOUT_SECONDS <= 0.4
    at.store.open.set()
    await at.settle()
    assert len(at.store.writes) == 1, "it was stored late"


async def test_what_nobody_waits_for_is_not_stored() -> None:
    at = At(seconds=PATIENT)
    at.store.open.clear()
    tasks = [at.submit(at.train()), at.submit(at.train(6))]
    await at.store.wait_for_write()
    tasks.append(at.submit(at.train()))
    await asyncio.gather(*tasks, return_exceptions=True)
    at.store.open.set()
    await at.settle()
    assert [command.project_id for command in at.inbox.commands()] == [5, 6]
    assert len(at.store.writes) == 2


async def test_an_error_reaches_all_that_wait_and_the_next_write_works(at: At) -> None:
    at.store.fail_at, at.store.error = 1, StoreError("The disk is full.")
    at.store.open.clear()
    first = at.submit(at.train())
    second = at.submit(at.train())
    await at.store.wait_for_write()
    third = at.submit(last := at.train())
    await asyncio.sleep(0)
    at.store.open.set()
    for task in (first, second):
        with pytest.raises(StoreError, match="The disk is full"):
            await task
    assert await third == last.id
    assert at.inbox.commands() == [last]


async def test_writes_that_wait_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_writer, "_MAX_WRITES", 3)
    at = At(seconds=60.0)
    at.store.open.clear()
    tasks = [at.submit(at.train(number)) for number in range(3)]
    await at.store.wait_for_write()
    with pytest.raises(StoreError, match="Too many commands"):
        await at.writer.submit(at.train(9))
    at.store.open.set()
    await asyncio.gather(*tasks)
    await at.settle()


async def test_remembered_trains_are_bounded(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command_writer, "_MAX_PROJECTS", 3)
    for number in range(10):
        await at.writer.submit(at.train(number))
        assert len(at.writer._trains) <= 3
    assert len(at.inbox.commands()) == 10
