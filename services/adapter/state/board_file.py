"""board.json: the leader publishes its board, and followers read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.adapter.state.board import Board, ProjectView
from services.adapter.state.documents import NotLeading
from services.core import documents
from services.core.documents import FORMAT
from services.core.domain import Project, Serving
from services.core.errors import StoreError
from services.core.retry import LogOnce
from services.core.store import ObjectStore

log = structlog.get_logger()
BOARD_KEY: Final = "board.json"
_CHANGED_SECONDS: Final = 1.0
_UNCHANGED_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class BoardDocument:
    """board.json."""

    views: tuple[ProjectView, ...] = ()
    written_at: float = 0.0
    term: int = 0
    reads_batches: bool = False
    """Whether the leader reads the change notices of many projects from one object; earlier releases do not."""
    format: int = FORMAT


def read_board(store: ObjectStore, table: Serving) -> list[ProjectView]:
    """Return the projects as the last leader has published them, with what the table serves; else what the table says alone.

    Raises StoreError if the store does not answer.
    """
    try:
        document = documents.load(BoardDocument, store.read(BOARD_KEY), BOARD_KEY)
    except StoreError as error:
        if error.transient:
            raise
        document = BoardDocument()  # none was published yet, or a newer release wrote it
    views = {view.project.key: view for view in document.views}
    served = {key: replace(views.get(key) or _unread(key), served=row) for key, row in table.projects.items()}
    return list({**views, **served}.values())


def _unread(project_key: str) -> ProjectView:
    number = int(project_key.partition("-")[0])
    return ProjectView(Project(project_key, number, f"Project {number}", "", "", ""), is_read=False)


@dataclass(slots=True)
class BoardPublisher:
    """Publishes the leader's board: after changes, at most once a second, and regularly, so that followers see a live leader."""

    store: ObjectStore
    board: Board
    _published: Mapping[int, ProjectView] | None = None
    _tried_at: float = 0.0
    _logged: LogOnce = field(default_factory=LogOnce)
    _dumped: dict[int, tuple[ProjectView, bytes]] = field(default_factory=dict)  # few change at a time

    def publish(self, term: int, now: float) -> None:
        """Write board.json if it is due. A store error is logged and retried. Raises NotLeading."""
        views = self.board.views
        if now - self._tried_at < (_UNCHANGED_SECONDS if views is self._published else _CHANGED_SECONDS):
            return
        self._tried_at = now
        empty = BoardDocument((), now, term, reads_batches=True)
        try:
            self.store.write(BOARD_KEY, self._dump(empty, views))
        except NotLeading:
            raise
        except StoreError as error:
            if self._logged.is_new(str(error)):
                log.warning("board_not_published", reason=str(error))
        else:
            self._published = views
            self._logged.resolved()

    def _dump(self, empty: BoardDocument, views: Mapping[int, ProjectView]) -> bytes:
        """Return the board with these views as JSON."""
        for number, view in views.items():
            known = self._dumped.get(number)
            if known is None or known[0] is not view:
                self._dumped[number] = (view, documents.dump(view))
        for dropped in self._dumped.keys() - views.keys():
            del self._dumped[dropped]
        rows = b",".join(self._dumped[number][1] for number in views)
        return documents.dump(empty).replace(b'"views": []', b'"views": [' + rows + b"]", 1)
