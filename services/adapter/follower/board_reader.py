"""The leader's board as a follower reads it: in another thread, because it may have several megabytes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field

import structlog

from services.adapter.state.board import ProjectView
from services.adapter.state.board_file import BOARD_KEY, BoardDocument
from services.adapter.state.documents import ProjectDocuments
from services.adapter.training.label_reader import label_space_of
from services.core import documents
from services.core.domain import Project
from services.core.errors import NotFound, StoreError, UnreadableDocument
from services.core.registry import Registry
from services.core.retry import LogOnce
from services.core.store import ObjectStore
from services.core.telemetry.logs import unexpected_error_message

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Reading:
    """A read of the board."""

    document: BoardDocument | None
    """None: it has not changed, or a newer release wrote it."""
    mark: str
    reported: bool
    """Whether the leader has written a board since the last read."""


@dataclass(slots=True)
class BoardReader:
    """Reads the board, one read at a time. Only the replica's thread may call it."""

    store: ObjectStore
    control_of: Callable[[int], str | None]
    executor: Executor
    wake: Callable[[], None]
    """Called when a read has ended."""
    document: BoardDocument | None = None
    """The last board; None before the first."""
    updated_at: float = 0.0
    """When the leader was last seen to report."""
    problem: LogOnce = field(default_factory=LogOnce)
    """Why the board cannot be read."""
    _mark: str = ""
    _term: int = 0
    """Counts the calls of `start`: what was read before the last one is outdated."""
    _reading: tuple[int, Future[_Reading]] | None = None

    def start(self, now: float) -> None:
        """Forget the board and wait for the next leader's."""
        self.document, self._mark, self.updated_at = None, "", now
        self._term += 1

    def step(self, now: float, *, is_due: bool) -> None:
        """Take up what was read; if `is_due`, start the next read unless one is in progress."""
        self._take(now)
        if is_due and self._reading is None:
            work = self.executor.submit(self._read, self._mark, is_first=self.document is None)
            self._reading = (self._term, work)
            work.add_done_callback(lambda _: self.wake())
            self._take(now)

    def _take(self, now: float) -> None:
        if self._reading is None or not self._reading[1].done():
            return
        (term, work), self._reading = self._reading, None
        try:
            found = work.result()
        except Exception as error:  # noqa: BLE001  # the table is followed whatever happens to the board
            reason = str(error) if isinstance(error, StoreError) else unexpected_error_message(error)
            if self.problem.is_new(reason):
                log.warning("board_unreadable", reason=reason)
            return
        self.problem.resolved()
        if term == self._term:
            self._mark = found.mark
            self.document = found.document or self.document
            self.updated_at = now if found.reported else self.updated_at

    def _read(self, mark: str, *, is_first: bool) -> _Reading:
        """Read the board if it has changed; `is_first`: without one, the projects as they are in the store."""
        try:
            found = self.store.read_changed(BOARD_KEY, mark)
        except NotFound:
            found = None
        document = self._parse(found[0]) if found else None
        if document is None and is_first:
            document = self._board_from_store()
        return _Reading(document, found[1] if found else mark, reported=found is not None)

    def _parse(self, data: bytes) -> BoardDocument | None:
        """Return None for a board of a newer release, which this process reads after its own upgrade."""
        try:
            return documents.load(BoardDocument, data, BOARD_KEY)
        except StoreError as error:
            log.warning("board_unreadable", reason=str(error))
            return None

    def _board_from_store(self) -> BoardDocument:
        """Return the projects as they are in the store, until a leader has published a board."""
        views = tuple(map(self._view_from_store, Registry(self.store).projects()))
        return BoardDocument(views, reads_batches=True)

    def _view_from_store(self, project: Project) -> ProjectView:
        """Return the project with its label space; if its connection.json cannot be read, with that as its problem."""
        override, problem = None, ""
        try:
            override = ProjectDocuments(self.store, project.key).connection().overrides.get("control")
        except UnreadableDocument as error:
            problem = str(error)
        space, _ = label_space_of(project, override or self.control_of(project.id))
        return ProjectView(project, space, problem=problem)
