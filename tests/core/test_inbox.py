"""core.inbox: commands wait in order until they are done."""

from __future__ import annotations

from pathlib import Path

from services.core.domain import Action, Command
from services.core.inbox import Inbox, command_id
from services.core.store.files import FileStore


def test_commands_wait_in_order_until_done(tmp_path: Path) -> None:
    inbox = Inbox(FileStore(tmp_path))
    ids = [command_id(now) for now in (2.0, 1.0, 3.0)]
    for one in ids:
        inbox.put(Command(one, 5, Action.TRAIN))
    assert [command.id for command in inbox.commands()] == sorted(ids)
    inbox.done(min(ids))
    inbox.done("never-there")
    assert [command.id for command in inbox.commands()] == sorted(ids)[1:]


def test_ids_of_one_instant_differ() -> None:
    assert command_id(1.0) != command_id(1.0)
