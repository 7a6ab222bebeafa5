"""A follower reads the serving table at a fixed period, whatever the board and the inbox do."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from services.adapter.follower import POLL_SECONDS, Follower
from services.adapter.state.board import Board, ProjectView
from services.adapter.state.board_file import BOARD_KEY, BoardDocument, BoardPublisher
from services.adapter.state.events import EventBuffer
from services.core import documents
from services.core.domain import Project, Served, Serving
from services.core.errors import StoreError, StoreUnreachable
from services.core.inbox import Inbox
from services.core.serving_table import SERVING_KEY
from tests.support.store import MemoryStore
from tests.support.waiting import eventually
from tests.support.workers import InlineExecutor

KEY = "5-1"
VIEW = ProjectView(Project(KEY, 5, "Support", "<View/>", "", ""))


class Bucket(MemoryStore):
    """A bucket whose board and inbox can hang, and whose reads of the table take time."""

    def __init__(self, at: At) -> None:
        super().__init__()
        self._at = at
        self.table_reads: list[float] = []
        self.read_seconds = 0.0
        self.hangs: threading.Event | None = None
        self.write_error: StoreError | None = None

    def read_changed(self, key: str, mark: str = "") -> tuple[bytes, str] | None:
        if key == SERVING_KEY:
            self.table_reads.append(round(self._at.now, 3))
            self._at.now += self.read_seconds
        elif self.hangs:
            assert self.hangs.wait(60)
        return super().read_changed(key, mark)

    def write(self, key: str, data: bytes) -> None:
        if self.hangs:
            assert self.hangs.wait(60)
        if self.write_error:
            raise self.write_error
        super().write(key, data)


class At:
    """A follower at a time that the test moves."""

    def __init__(self, *, threads: bool = False) -> None:
        self.now = 100.0
        self.store = Bucket(self)
        self.events = EventBuffer(self.store, lambda: None, self.clock)
        self.executor = InlineExecutor()
        executor = ThreadPoolExecutor(2) if threads else self.executor
        self.follower = Follower(self.store, Board(), self.events, clock=self.clock, executor=executor)
        self.publish()
        self.serve("support-1", 1)

    def clock(self) -> float:
        return self.now

    def publish(self, *views: ProjectView, **fields: object) -> None:
        """Publish a board as a leader does."""
        board = replace(BoardDocument(views or (VIEW,), self.now, 1, reads_batches=True), **fields)  # type: ignore[arg-type]
        self.store.data[BOARD_KEY] = documents.dump(board)

    def serve(self, version: str, generation: int) -> None:
        table = Serving(1, generation, {KEY: Served(version)})
        self.store.data[SERVING_KEY] = documents.dump(table)

    def run(self, seconds: float, step: float = 0.125) -> None:
        """Tick as the replica's thread does that is woken by an event in each step."""
        for _ in range(round(seconds / step)):
            self.events.notify(5, "ANNOTATION_CREATED")
            self.follower.tick(self.now)
            self.now += step

    @property
    def shown(self) -> str | None:
        view = self.follower.board.view(5)
        return view.served.current if view else None


def test_table_is_read_at_a_fixed_period_however_often_it_is_woken() -> None:
    at = At()
    at.follower.start(at.now)
    at.run(3.0)
    assert at.store.table_reads == [100.0 + number * POLL_SECONDS for number in range(12)]
    assert POLL_SECONDS == 0.25


def test_slow_reads_do_not_stretch_the_period() -> None:
    at = At()
    at.follower.start(at.now)
    at.store.read_seconds = 0.125
    for _ in range(4):
        wait = at.follower.tick(at.now)
        at.now += wait
    assert at.store.table_reads == [100.0, 100.25, 100.5, 100.75]


def test_missed_reads_are_not_made_up_for() -> None:
    at = At()
    at.follower.start(at.now)
    at.follower.tick(at.now)
    at.now += 2.3
    assert at.follower.tick(at.now) == pytest.approx(0.2)
    assert at.store.table_reads == [100.0, 102.3]


def test_a_clock_set_back_a_little_delays_nothing() -> None:
    at = At()
    at.follower.start(at.now)
    at.follower.tick(at.now)
    at.now -= 3.0
    assert at.follower.tick(at.now) == POLL_SECONDS


def test_table_is_read_while_board_and_inbox_hang() -> None:
    """Writes that take 10 s, and reads of the board that take 3 s: none of them is repeated meanwhile."""
    at = At()
    at.follower.start(at.now)
    at.run(0.125)
    at.executor.is_held = True
    at.serve("support-2", 2)
    at.run(9.875)
    assert at.store.table_reads == [100.0 + number * POLL_SECONDS for number in range(40)]
    assert at.shown == "support-2"
    assert at.executor.in_flight == 2
    at.executor.is_held = False
    at.executor.release()
    at.run(0.625)
    assert at.follower.board.store_problem == ""
    assert [notice.project_id for notice in Inbox(at.store).read().notices] == [5]


def test_table_is_read_while_threads_hang() -> None:
    at = At(threads=True)
    at.store.hangs = threading.Event()
    at.follower.start(at.now)
    at.run(10.0)
    assert at.store.table_reads == [100.0 + number * POLL_SECONDS for number in range(40)]
    assert at.shown is None
    at.store.hangs.set()

    def is_shown() -> bool:
        at.run(0.5)
        return at.shown == "support-1" and bool(Inbox(at.store).read().notices)

    eventually(is_shown, every=0.01, what="the board and the notices")


def test_notices_of_a_pass_are_one_object() -> None:
    at = At()
    at.follower.start(at.now)
    for project_id in range(100):
        at.events.notify(project_id, "ANNOTATION_CREATED")
    at.follower.tick(at.now)
    (key,) = at.store.keys("inbox/")
    assert len(json.loads(at.store.data[key])["notices"]) == 100
    at.run(5.0)
    assert len(list(at.store.keys("inbox/"))) <= 11, "two a second at most"


def test_unwritten_notices_are_merged_and_sent_with_backoff() -> None:
    at = At()
    at.follower.start(at.now)
    at.store.write_error = StoreUnreachable("The bucket does not answer.")
    with capture_logs() as lines:
        at.run(30.0)
    assert [line["event"] for line in lines] == ["change_notices_not_forwarded"]
    assert at.store.table_reads == [100.0 + number * POLL_SECONDS for number in range(120)]
    at.store.write_error = None
    at.events.notify(6, "SETUP")
    at.run(10.125)
    first, *_ = sorted(at.store.keys("inbox/"))
    notices = json.loads(at.store.data[first])["notices"]
    assert [(notice["project_id"], notice["actions"]) for notice in notices] == [
        (5, ["ANNOTATION_CREATED"]),
        (6, ["SETUP"]),
    ]


def test_leader_of_an_earlier_release_gets_one_object_per_project() -> None:
    """It does not know batches, and would only find out about a new project after its own upgrade."""
    at = At()
    at.publish(reads_batches=False)
    at.follower.start(at.now)
    at.events.notify(5, "TASKS_CREATED")
    at.events.notify(6, "SETUP")
    at.follower.tick(at.now)
    assert list(at.store.keys("inbox/")) == ["inbox/hint-5.json", "inbox/hint-6.json"]
    at.publish()
    at.now += 1.0
    at.follower.tick(at.now)
    at.events.notify(7, "SETUP")
    at.now += 1.0
    at.follower.tick(at.now)
    assert len(list(at.store.keys("inbox/events-"))) == 1


def test_hints_that_were_written_are_not_repeated() -> None:
    at = At()
    at.publish(reads_batches=False)
    at.follower.start(at.now)
    at.follower.tick(at.now)
    for project_id in (5, 6, 7):
        at.events.notify(project_id, "SETUP")
    at.store.fail_at, at.store.error = at.store.changes + 2, StoreError("Denied.")
    at.follower.tick(at.now)
    at.store.fail_at = None
    assert list(at.store.keys("inbox/")) == ["inbox/hint-5.json"]
    assert [notice.project_id for notice in at.events.collect()] == [6, 7]


def test_published_board_says_that_batches_are_read() -> None:
    store, board = MemoryStore(), Board()
    BoardPublisher(store, board).publish(1, 100.0)
    assert documents.load(BoardDocument, store.data[BOARD_KEY], "").reads_batches


def test_board_that_was_read_for_an_earlier_term_is_dropped() -> None:
    at = At()
    at.executor.is_held = True
    at.follower.start(at.now)
    at.follower.tick(at.now)
    at.follower.start(at.now)
    at.executor.is_held = False
    at.executor.release()
    at.publish(VIEW, ProjectView(Project("6-1", 6, "Other", "", "", "")))
    at.now += 1.0
    at.follower.tick(at.now)
    assert sorted(at.follower.board.views) == [5, 6]


def test_unreadable_board_is_reported_and_the_table_followed() -> None:
    at = At()
    at.follower.start(at.now)
    at.run(0.125)
    broken = RuntimeError("bug")

    def fails(key: str, mark: str = "") -> None:
        raise broken if key == BOARD_KEY else StoreError("away")

    at.store.read_changed = fails  # type: ignore[method-assign]
    with capture_logs() as lines:
        at.run(3.0)
    assert sorted({line["event"] for line in lines}) == ["board_unreadable", "serving_table_unreadable"]
    assert len(lines) == 2
    assert at.follower.board.store_problem == "away"
