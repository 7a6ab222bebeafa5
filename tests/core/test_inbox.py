"""core.inbox: commands wait in order until they are done."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from services.core.domain import Action, Command
from services.core.errors import StoreUnreachable
from services.core.inbox import Inbox, InboxContents, command_id
from services.core.notices import ChangeNotice, merge_notices
from services.core.store import Entry
from services.core.store.files import FileStore


class CountingStore(FileStore):
    """Counts what is read and listed; `error` is raised by reads, which wait for `together`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reads = self.lists = 0
        self.error: Exception | None = None
        self.together: threading.Barrier | None = None

    def read(self, key: str) -> bytes:
        self.reads += 1
        if self.together:
            self.together.wait(60)
        if self.error:
            raise self.error
        return super().read(key)

    def entries(self, prefix: str = "") -> Iterator[Entry]:
        self.lists += 1
        return super().entries(prefix)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    return CountingStore(tmp_path)


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


def test_notices_of_all_replicas_are_merged_by_project(tmp_path: Path) -> None:
    inbox = Inbox(FileStore(tmp_path))
    inbox.add_notices([ChangeNotice(5, ("TASKS_CREATED",), {"seed": "1"}, "http://a", 2.0)], 2.0)
    inbox.add_notices([ChangeNotice(5, ("SETUP",), None, "", 1.0), ChangeNotice(6, at=3.0)], 3.0)
    inbox.add_notice(ChangeNotice(5, ("SETUP", "TASKS_DELETED"), {"seed": "0"}, "http://0", 1.5))
    inbox.add_command(Command("1", 5, Action.TRAIN))
    contents = inbox.read()
    assert contents.notices == (
        ChangeNotice(5, ("SETUP", "TASKS_DELETED", "TASKS_CREATED"), {"seed": "1"}, "http://a", 2.0),
        ChangeNotice(6, at=3.0),
    )
    assert contents.notice_keys == ()
    assert Inbox(inbox.store).read() == contents, "another leader reads them again, if this one has died"
    later = inbox.read()
    for _ in range(2):
        later = inbox.read()
        assert (later.notices, later.commands, len(later.notice_keys)) == ((), contents.commands, 3)
    inbox.delete_handled(later.notice_keys)
    assert inbox.read().notice_keys == ()
    assert list(inbox.store.keys("inbox/")) == ["inbox/cmd-1.json"]


def test_hint_of_an_earlier_release_is_merged_in_place(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    Inbox(store).add_notice(ChangeNotice(5, ("TASKS_CREATED",), {"seed": "1"}, "http://a", 2.0))
    Inbox(store).add_notice(ChangeNotice(5, ("SETUP", "TASKS_CREATED"), None, "", 1.0))
    assert list(store.keys("inbox/")) == ["inbox/hint-5.json"]
    (notice,) = Inbox(store).read().notices
    assert notice == ChangeNotice(5, ("TASKS_CREATED", "SETUP"), {"seed": "1"}, "http://a", 2.0)


def test_notices_too_large_for_one_object_are_split(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    notices = [ChangeNotice(number, (), {"model_name": "x" * 5000}) for number in range(300)]
    Inbox(store).add_notices(notices, 1.0)
    assert 1 < len(list(store.keys("inbox/"))) < 8
    assert sorted(Inbox(store).read().notices, key=lambda notice: notice.project_id) == notices


def test_what_was_read_is_not_read_again(store: CountingStore) -> None:
    inbox = Inbox(store)
    for one in ("1", "2"):
        inbox.add_command(Command(one, 5, Action.TRAIN))
    store.write("inbox/cmd-3.json", b"{")
    for _ in range(3):
        assert [command.id for command in inbox.commands()] == ["1", "2"]
    assert (store.reads, store.lists) == (3, 3)
    inbox.delete_command("1")
    inbox.add_command(Command("2", 5, Action.ROLLBACK, "support-1"))
    assert [(command.id, command.version) for command in inbox.commands()] == [("2", "support-1")]


def test_answered_commands_are_left_out_until_they_are_deleted(tmp_path: Path) -> None:
    inbox = Inbox(FileStore(tmp_path))
    commands = [Command(str(number), 5, Action.TRAIN) for number in range(6)]
    for command in commands:
        inbox.add_command(command)
    for command in inbox.commands()[:5]:
        inbox.answer_command(command, "done")
    contents = inbox.read()
    assert contents.commands == (commands[5],)
    assert Inbox(inbox.store).commands() == commands, "another leader answers them again, if this one dies"
    with ThreadPoolExecutor(2) as executor:
        inbox.delete_handled(inbox.answered_keys, executor)
    assert list(inbox.store.keys("inbox/")) == ["inbox/cmd-5.json"]
    assert (inbox.commands(), inbox.answered_keys) == (commands[5:], [])


def test_a_pass_is_bounded_and_commands_come_first(store: CountingStore) -> None:
    inbox = Inbox(store)
    for number in range(30):
        inbox.add_notices([ChangeNotice(number)], float(number))
        inbox.add_command(Command(command_id(float(number)), number, Action.TRAIN))
    read: list[int] = []
    contents = InboxContents()
    for left in (35, 10, 0):
        contents = inbox.read(limit=25)
        assert contents.left == left
        read += [notice.project_id for notice in contents.notices]
        inbox.delete_handled(contents.notice_keys)
    assert [command.project_id for command in contents.commands] == list(range(30))
    assert read == list(range(30))
    assert store.reads == 60


def test_objects_are_read_by_the_given_executor(store: CountingStore) -> None:
    """The reads wait for each other: they are only done if they run at the same time."""
    inbox = Inbox(store)
    for number in range(4):
        inbox.add_command(Command(str(number), 5, Action.TRAIN))
    store.together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as executor:
        assert len(inbox.read(executor).commands) == 4


def test_a_store_that_fails_is_an_error_and_nothing_is_lost(store: CountingStore) -> None:
    inbox = Inbox(store)
    inbox.add_command(Command("1", 5, Action.TRAIN))
    inbox.add_notices([ChangeNotice(5)], 1.0)
    store.error = StoreUnreachable("The bucket does not answer.")
    with pytest.raises(StoreUnreachable):
        inbox.read()
    store.error = None
    contents = inbox.read()
    assert (len(contents.commands), len(contents.notices)) == (1, 1)


def test_a_command_under_another_name_is_not_executed(tmp_path: Path) -> None:
    """It could never be deleted, and would be executed in every pass."""
    store = FileStore(tmp_path)
    Inbox(store).add_command(Command("1", 5, Action.TRAIN))
    store.write("inbox/cmd-2.json", store.read("inbox/cmd-1.json"))
    store.write("inbox/of-a-later-release-5.json", b"{}")
    with capture_logs() as lines:
        assert [command.id for command in Inbox(store).commands()] == ["1"]
    assert [line["key"] for line in lines] == ["inbox/cmd-2.json"]


def test_later_values_win() -> None:
    before = ChangeNotice(5, (), {"seed": "1"}, "http://a", 1.0)
    assert before.merge(ChangeNotice(5, (), {}, "http://b", 2.0)) == ChangeNotice(5, (), {}, "http://b", 2.0)


def test_an_unreadable_hint_is_overwritten(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    inbox = Inbox(store)
    store.write("inbox/hint-5.json", b"{")
    assert inbox.read().notices == ()
    inbox.add_notice(ChangeNotice(5, ("SETUP",)))
    assert [notice.actions for notice in inbox.read().notices] == [("SETUP",)]


NOTICES = st.builds(
    ChangeNotice,
    st.integers(1, 3),
    st.lists(st.sampled_from(["SETUP", "TASKS_CREATED", "PROJECT_DELETED"]), max_size=2).map(tuple),
    st.none() | st.dictionaries(st.just("seed"), st.sampled_from("12"), max_size=1),
    st.sampled_from(["", "http://a", "http://b"]),
    st.floats(0, 9),
)


@given(st.lists(NOTICES), st.lists(NOTICES))
def test_merging_in_parts_is_merging_at_once(first: list[ChangeNotice], second: list[ChangeNotice]) -> None:
    assert merge_notices([*merge_notices(first), *merge_notices(second)]) == merge_notices([*first, *second])


@given(st.lists(NOTICES))
def test_merging_loses_no_event_and_repeats_nothing(notices: list[ChangeNotice]) -> None:
    merged = {notice.project_id: notice for notice in merge_notices(notices)}
    assert merged.keys() == {notice.project_id for notice in notices}
    for project_id, notice in merged.items():
        same = [one for one in notices if one.project_id == project_id]
        assert set(notice.actions) == {action for one in same for action in one.actions}
        assert notice.at == max(one.at for one in same)
        assert notice.overrides == next((o for one in same[::-1] if (o := one.overrides) is not None), None)
        assert notice.merge(notice) == replace(notice, actions=tuple(dict.fromkeys(notice.actions)))
