"""core.inbox: commands wait in order until they are done."""

from __future__ import annotations

from pathlib import Path

from structlog.testing import capture_logs

from services.core.domain import Action, Command
from services.core.inbox import ChangeNotice, Inbox, command_id
from services.core.store.files import FileStore


def test_commands_wait_in_order_until_done(tmp_path: Path) -> None:
    inbox = Inbox(FileStore(tmp_path))
    ids = [command_id(now) for now in (2.0, 1.0, 3.0)]
    for one in ids:
        inbox.add_command(Command(one, 5, Action.TRAIN))
    assert [command.id for command in inbox.commands()] == sorted(ids)
    inbox.delete_command(min(ids))
    inbox.delete_command("never-there")
    assert [command.id for command in inbox.commands()] == sorted(ids)[1:]


def test_ids_of_one_instant_differ() -> None:
    assert command_id(1.0) != command_id(1.0)


def test_an_unreadable_command_stays_and_delays_no_other(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    inbox = Inbox(store)
    store.write("inbox/cmd-0.json", b'{"format": 99, "id": "0"}')
    store.write("inbox/cmd-1.json", b"{")
    store.write("inbox/cmd-11.json", b" " * ((1 << 20) + 1))
    inbox.add_command(Command("2", 5, Action.TRAIN))
    with capture_logs() as lines:
        for _ in range(3):
            assert [command.id for command in inbox.commands()] == ["2"]
    assert [line["key"] for line in lines] == [
        "inbox/cmd-0.json",
        "inbox/cmd-1.json",
        "inbox/cmd-11.json",
    ]
    assert "upgrade Fitloop" in lines[0]["reason"]
    assert len(list(store.keys("inbox/"))) == 4


def test_notices_of_a_project_are_merged_and_taken_once(tmp_path: Path) -> None:
    inbox = Inbox(FileStore(tmp_path))
    inbox.add_notice(ChangeNotice(5, ("TASKS_CREATED",), {"seed": "1"}, "http://a", 2.0))
    inbox.add_notice(ChangeNotice(5, ("SETUP", "TASKS_CREATED"), None, "", 1.0))
    inbox.add_notice(ChangeNotice(6, at=3.0))
    inbox.add_command(Command("1", 5, Action.TRAIN))
    assert inbox.take_notices() == [
        ChangeNotice(5, ("TASKS_CREATED", "SETUP"), {"seed": "1"}, "http://a", 2.0),
        ChangeNotice(6, at=3.0),
    ]
    assert inbox.take_notices() == []
    assert len(inbox.commands()) == 1


def test_later_values_win() -> None:
    before = ChangeNotice(5, (), {"seed": "1"}, "http://a", 1.0)
    assert before.merge(ChangeNotice(5, (), {}, "http://b", 2.0)) == ChangeNotice(5, (), {}, "http://b", 2.0)


def test_an_unreadable_notice_is_overwritten(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write("inbox/hint-5.json", b"{")
    assert Inbox(store).take_notices() == []
    Inbox(store).add_notice(ChangeNotice(5, ("SETUP",)))
    assert [hint.actions for hint in Inbox(store).take_notices()] == [("SETUP",)]
