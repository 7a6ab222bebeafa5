"""An adapter that does not lead: it shows what the leader's board says, and passes on what it is told itself.

Which version serves is read from serving.json, and each version is told of at its moment by this process's clock. What
was read last is shown for as long as nothing newer can be read.
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
from services.core.domain import LabelSpace, Project, Served
from services.core.errors import NotFound, StoreError
from services.core.inbox import ChangeNotice, Inbox
from services.core.registry import Registry, ServingTable
from services.core.store import ObjectStore

log = structlog.get_logger()
POLL_SECONDS: Final = 0.5
"""Between two looks."""
_STALE_SECONDS: Final = 10.0
_SILENT_ADVICE: Final = "Another one takes over within seconds; if none does, `fitloop doctor` says why."


@dataclass(slots=True)
class Follower:
    """Reads the store and fills the board. `collect` gives what routes have left."""

    store: ObjectStore
    board: Board
    collect: Callable[[], list[ChangeNotice]]
    control_of: Callable[[int], str | None] = lambda _: None
    """The control that settings name for a project; None: none does."""
    _table: ServingTable = field(init=False)
    _document: BoardDocument | None = None
    _mark: str = ""
    _updated_at: float = 0.0
    _problem: str = ""

    def __post_init__(self) -> None:
        """Nothing is read yet."""
        self._table = ServingTable(self.store)

    def start(self, now: float) -> None:
        """This process no longer leads, or never did: what the next leader says is waited for from now on."""
        self._document, self._mark, self._updated_at = None, "", now

    def tick(self, now: float) -> float:
        """Pass on, read and show; the seconds until the next time."""
        self._forward_notices()
        try:
            self._table.read()
            self._read_board(now)
            self._report_problem("")
        except StoreError as error:
            self._report_problem(str(error))
        self._show(now)
        return POLL_SECONDS

    def _forward_notices(self) -> None:
        for hint in self.collect():
            try:
                Inbox(self.store).add_notice(hint)
                metrics.hint(stored=True)
            except StoreError as error:
                metrics.hint(stored=False)
                log.warning("change_notice_not_forwarded", project=hint.project_id, reason=str(error))

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
        """None for one that a newer release has written: the next upgrade makes this process read it."""
        try:
            return documents.load(BoardDocument, data, BOARD_KEY)
        except StoreError as error:
            log.warning("board_unreadable", reason=str(error))
            return None

    def _board_from_store(self) -> BoardDocument:
        """Before any leader has written one: the projects as they are in the store."""
        projects = Registry(self.store).projects()
        return BoardDocument(tuple(ProjectView(project, self._space_of(project)) for project in projects))

    def _space_of(self, project: Project) -> LabelSpace | None:
        told = ProjectDocuments(self.store, project.key).connection().overrides.get("control")
        return label_space_of(project, told or self.control_of(project.id))[0]

    def _show(self, now: float) -> None:
        if self._document is None:
            return
        views = [self._current(view, now) for view in self._document.views]
        for gone in self.board.views.keys() - {view.project.id for view in views}:
            metrics.leave(gone)
        if views != list(self.board.views.values()):
            self.board.replace(views)
        self.board.ready.set()

    def _current(self, view: ProjectView, now: float) -> ProjectView:
        served = self._table.last.projects.get(view.project.key, Served())
        silent = now - self._updated_at
        if silent <= _STALE_SECONDS:
            return replace(view, served=served)
        problem = f"The adapter that leads has said nothing for {_in_words(silent)}: predictions go on, training may wait. {_SILENT_ADVICE}"
        return replace(view, served=served, problem=" ".join(filter(None, (view.problem, problem))))

    def _report_problem(self, trouble: str) -> None:
        """Once, and not every second."""
        if trouble and trouble != self._problem:
            log.warning("serving_table_unreadable", reason=trouble)
        elif self._problem and not trouble:
            log.info("serving_table_readable")
        self._problem = self.board.store_problem = trouble


def _in_words(seconds: float) -> str:
    """Coarse, so that a view does not change each second."""
    return f"{seconds // 10 * 10:.0f} s" if seconds < 60 else f"{seconds // 60:.0f} min"
