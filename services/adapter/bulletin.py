"""board.json: what the leader's board says, for the adapters that do not lead.

Written when it has changed, at most once a second, and from time to time in any case, so that a reader sees whether
somebody still leads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from services.adapter.board import Board, ProjectView
from services.adapter.guarded import NotLeading
from services.core import documents
from services.core.documents import FORMAT
from services.core.errors import StoreError
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
    format: int = FORMAT


@dataclass(slots=True)
class BoardPublisher:
    """Where the leader puts it up."""

    store: ObjectStore
    board: Board
    _published: Mapping[int, ProjectView] | None = None
    _tried_at: float = 0.0
    _error: str = ""

    def publish(self, term: int, now: float) -> None:
        """Write the board, where that is due. Trouble of the store is logged, and tried again. Raises NotLeading."""
        views = self.board.views
        if now - self._tried_at < (_UNCHANGED_SECONDS if views is self._published else _CHANGED_SECONDS):
            return
        self._tried_at = now
        page = BoardDocument(tuple(views.values()), now, term)
        try:
            self.store.write(BOARD_KEY, documents.dump(page))
        except NotLeading:
            raise
        except StoreError as error:
            if str(error) != self._error:  # said once, and not every second
                log.warning("the board could not be written", reason=str(error))
            self._error = str(error)
        else:
            self._published, self._error = views, ""
