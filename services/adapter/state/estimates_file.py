"""projects/<key>/estimates.json: how the expected accuracy of versions compared with later annotations.

The leader writes it; any replica may read it. It outlives the versions, so that what was once scored stays known.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from services.core import documents
from services.core.documents import FORMAT, Extensible
from services.core.domain import EstimateScore
from services.core.errors import NotFound, UnknownFormat, UnreadableDocument
from services.core.store import ObjectStore

log = structlog.get_logger()
MAX_SCORES: Final = 100
"""The newest versions whose scores are kept."""


@dataclass(frozen=True, slots=True)
class EstimateScores(Extensible):
    """estimates.json."""

    scores: tuple[EstimateScore, ...] = ()
    """Oldest version first."""
    term: int = 0
    format: int = FORMAT

    def merge(self, scores: dict[str, EstimateScore], term: int) -> EstimateScores:
        """Return the document with these scores added, or replaced; the newest MAX_SCORES."""
        known = {one.version: one for one in self.scores} | scores
        by_age = sorted(known.values(), key=lambda one: (one.created_at, one.version))
        return replace(self, scores=tuple(by_age[-MAX_SCORES:]), term=term)


@dataclass(frozen=True, slots=True)
class EstimatesFile:
    """The document of one project in the store."""

    store: ObjectStore = field(repr=False)
    project_key: str

    def read(self) -> EstimateScores:
        """Return what was stored; nothing if there is nothing, or nothing that can be read, which is logged: it will be replaced.

        Raises UnknownFormat of a newer release, StoreError.
        """
        try:
            return documents.load(EstimateScores, self.store.read(self._key), self._key)
        except NotFound:
            return EstimateScores()
        except UnknownFormat:
            raise
        except UnreadableDocument as error:
            log.warning("estimates_unreadable", key=self._key, reason=str(error))
            return EstimateScores()

    def write(self, found: EstimateScores) -> None:
        """Store the document. Raises StoreError."""
        self.store.write(self._key, documents.dump(found))

    @property
    def _key(self) -> str:
        return f"projects/{self.project_key}/estimates.json"
