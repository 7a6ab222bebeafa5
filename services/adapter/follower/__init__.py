"""An adapter that does not lead: it shows the leader's board and forwards change notices to the leader.

The version in effect is read from serving.json, at a fixed period and before anything else, and switched at its time by this
process's clock. Whatever may be slow, the board of all projects and writes to the inbox, is done in other threads. The last
state that could be read is shown until a newer one can be.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.follower.board_reader import BoardReader
from services.adapter.follower.notice_forwarder import NoticeForwarder
from services.adapter.state.board import Board, ProjectView
from services.adapter.state.board_file import BoardDocument
from services.adapter.state.events import EventBuffer
from services.core.domain import Served, Serving
from services.core.errors import StoreError
from services.core.inbox import Inbox
from services.core.retry import LogOnce
from services.core.serving_table import ServingTableReader
from services.core.store import ObjectStore

log = structlog.get_logger()
POLL_SECONDS: Final = 0.25
"""Between reads of the table. All replicas switch to a new version two of them after it was written."""
BOARD_SECONDS: Final = 0.5
_STALE_SECONDS: Final = 10.0
_SILENT_ADVICE: Final = "Another one takes over within seconds; if none does, `fitloop doctor` says why."


def _start_threads() -> Executor:
    return ThreadPoolExecutor(2, "follow")  # one reads the board, one writes to the inbox


@dataclass(slots=True)
class Follower:
    """Reads the store and fills the board. `events` holds the change notices that routes have buffered."""

    store: ObjectStore
    board: Board
    events: EventBuffer
    control_of: Callable[[int], str | None] = lambda _: None
    """The control that settings name for a project; None: none does."""
    clock: Callable[[], float] = time.time
    executor: Executor = field(default_factory=_start_threads)
    """Runs what may be slow."""
    wake: Callable[[], None] = lambda: None
    """Called when a board was read: then the next tick is due at once."""
    _table: ServingTableReader = field(init=False)
    _boards: BoardReader = field(init=False)
    _forwarder: NoticeForwarder = field(init=False)
    _has_table: bool = False
    """Whether the table was read since `start`: what was read in an earlier time as follower may be out of date."""
    _due_at: float = 0.0
    """When the table is read next."""
    _board_due_at: float = 0.0
    _shown: tuple[BoardDocument, Serving, str] | None = None
    """What the board shows."""
    _problem: LogOnce = field(default_factory=LogOnce)

    def __post_init__(self) -> None:
        self._table = ServingTableReader(self.store)
        self._boards = BoardReader(self.store, self.control_of, self.executor, self.wake)
        self._forwarder = NoticeForwarder(Inbox(self.store), self.events, self.executor)

    def start(self, now: float) -> None:
        """Start following: wait from now on for the board of the next leader."""
        self._due_at, self._board_due_at, self._shown, self._has_table = now, now, None, False
        self._boards.start(now)

    def tick(self, now: float) -> float:
        """Read and show what is due; return the seconds until the next tick."""
        is_due = now >= self._due_at or now < self._due_at - POLL_SECONDS  # the clock was set back
        if is_due:
            missed = max(0.0, now - self._due_at) // POLL_SECONDS
            self._due_at = min(self._due_at, now) + (missed + 1) * POLL_SECONDS
            self._read_table()
        is_board_due = is_due and not self._board_due_at - BOARD_SECONDS <= now < self._board_due_at
        if is_board_due:
            self._board_due_at = now + BOARD_SECONDS
        self._boards.step(now, is_due=is_board_due)
        document = self._boards.document
        self._forwarder.step(now, in_batches=document is None or document.reads_batches)
        self.board.store_problem = self._problem.problem or self._boards.problem.problem
        self._show(now)
        return max(0.0, self._due_at - self.clock())

    def _read_table(self) -> None:
        try:
            self._table.read()
        except StoreError as error:
            if self._problem.is_new(str(error)):
                log.warning("serving_table_unreadable", reason=str(error))
        else:
            self._has_table = True
            if self._problem.resolved():
                log.info("serving_table_readable")

    def _show(self, now: float) -> None:
        document = self._boards.document
        if document is None or not self._has_table:
            return
        shown = (document, self._table.last, self._silence(now))
        if shown == self._shown:
            return
        views = [self._current(view, shown[2]) for view in document.views]
        for dropped in self.board.views.keys() - {view.project.id for view in views}:
            metrics.forget_project(dropped)
        if views != list(self.board.views.values()):
            self.board.replace(views)
        self.board.ready.set()
        self._shown = shown

    def _current(self, view: ProjectView, silence: str) -> ProjectView:
        served = self._table.last.projects.get(view.project.key, Served())
        return replace(view, served=served, problem=" ".join(filter(None, (view.problem, silence))))

    def _silence(self, now: float) -> str:
        """Say that the leader has not reported for a while; "" if it has."""
        silent = now - self._boards.updated_at
        if silent <= _STALE_SECONDS:
            return ""
        return (
            f"The leading adapter has not reported for {_rounded(silent)}: predictions continue, training may wait. "
            f"{_SILENT_ADVICE}"
        )


def _rounded(seconds: float) -> str:
    """Round coarsely, so that a view does not change each second."""
    return f"{seconds // 10 * 10:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min"
