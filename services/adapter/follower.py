"""An adapter that does not lead: it shows the leader's board and forwards change notices to the leader.

The version in effect is read from serving.json and switched at its time by this process's clock. The last state that could
be read is shown until a newer one can be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter import metrics
from services.adapter.state.board import BOARD_KEY, Board, BoardDocument, ProjectView
from services.adapter.state.documents import ProjectDocuments
from services.adapter.training.label_reader import label_space_of
from services.core import documents
from services.core.domain import Project, Served
from services.core.errors import NotFound, StoreError, UnreadableDocument
from services.core.inbox import ChangeNotice, Inbox
from services.core.registry import Registry
from services.core.retry import LogOnce
from services.core.serving_table import ServingTableReader
from services.core.store import ObjectStore

log = structlog.get_logger()
POLL_SECONDS: Final = 0.5
_STALE_SECONDS: Final = 10.0
_SILENT_ADVICE: Final = "Another one takes over within seconds; if none does, `fitloop doctor` says why."


@dataclass(slots=True)
class Follower:
    """Reads the store and fills the board. `collect` returns the change notices that routes have buffered."""

    store: ObjectStore
    board: Board
    collect: Callable[[], list[ChangeNotice]]
    control_of: Callable[[int], str | None] = lambda _: None
    """The control that settings name for a project; None: none does."""
    _table: ServingTableReader = field(init=False)
    _document: BoardDocument | None = None
    _mark: str = ""
    _updated_at: float = 0.0
    _problem: LogOnce = field(default_factory=LogOnce)

    def __post_init__(self) -> None:
        self._table = ServingTableReader(self.store)

    def start(self, now: float) -> None:
        """Start following: wait from now on for the board of the next leader."""
        self._document, self._mark, self._updated_at = None, "", now

    def tick(self, now: float) -> float:
        """Forward notices, read and show; return the seconds until the next tick."""
        self._forward_notices()
        try:
            self._table.read()
            self._read_board(now)
        except StoreError as error:
            if self._problem.is_new(str(error)):
                log.warning("serving_table_unreadable", reason=str(error))
        else:
            if self._problem.resolved():
                log.info("serving_table_readable")
        self.board.store_problem = self._problem.problem
        self._show(now)
        return POLL_SECONDS

    def _forward_notices(self) -> None:
        for notice in self.collect():
            try:
                Inbox(self.store).add_notice(notice)
                metrics.count_change_notice(stored=True)
            except StoreError as error:
                metrics.count_change_notice(stored=False)
                log.warning("change_notice_not_forwarded", project=notice.project_id, reason=str(error))

    def _read_board(self, now: float) -> None:
        try:
            found = self.store.read_changed(BOARD_KEY, self._mark)
        except NotFound:
            found = None
        if found:
            data, self._mark = found
            self._document, self._updated_at = self._parse(data) or self._document, now
        if self._document is None:
            self._document = self._board_from_store()

    def _parse(self, data: bytes) -> BoardDocument | None:
        """Return None for a board of a newer release, which this process reads after its own upgrade."""
        try:
            return documents.load(BoardDocument, data, BOARD_KEY)
        except StoreError as error:
            log.warning("board_unreadable", reason=str(error))
            return None

    def _board_from_store(self) -> BoardDocument:
        """Return the projects as they are in the store, until a leader has published a board."""
        projects = Registry(self.store).projects()
        return BoardDocument(tuple(map(self._view_from_store, projects)))

    def _view_from_store(self, project: Project) -> ProjectView:
        """Return the project with its label space; if its connection.json cannot be read, with that as its problem."""
        override, problem = None, ""
        try:
            override = ProjectDocuments(self.store, project.key).connection().overrides.get("control")
        except UnreadableDocument as error:
            problem = str(error)
        space, _ = label_space_of(project, override or self.control_of(project.id))
        return ProjectView(project, space, problem=problem)

    def _show(self, now: float) -> None:
        if self._document is None:
            return
        views = [self._current(view, now) for view in self._document.views]
        for dropped in self.board.views.keys() - {view.project.id for view in views}:
            metrics.forget_project(dropped)
        if views != list(self.board.views.values()):
            self.board.replace(views)
        self.board.ready.set()

    def _current(self, view: ProjectView, now: float) -> ProjectView:
        served = self._table.last.projects.get(view.project.key, Served())
        silent = now - self._updated_at
        if silent <= _STALE_SECONDS:
            return replace(view, served=served)
        problem = (
            f"The leading adapter has not reported for {_rounded(silent)}: predictions continue, training may wait. "
            f"{_SILENT_ADVICE}"
        )
        return replace(view, served=served, problem=" ".join(filter(None, (view.problem, problem))))


def _rounded(seconds: float) -> str:
    """Round coarsely, so that a view does not change each second."""
    return f"{seconds // 10 * 10:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min"
