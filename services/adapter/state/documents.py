"""The leader's documents of one project in the bucket, and the fence around every write of the leader.

connection.json is replaced whole; a version's outcome is written once, after what it reports was done. Both are read again
after a restart, so that every published version is decided exactly once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import ClassVar, TypeVar

from services.adapter.liveness import Heartbeat
from services.adapter.ports import Leadership
from services.core import documents
from services.core.documents import FORMAT, Extensible
from services.core.errors import NotFound, StoreError
from services.core.store import ObjectStore
from services.core.store.wrapped import CHANGES, WrappedStore
from services.core.telemetry.metrics import StoreOperation

T = TypeVar("T")


class NotLeading(StoreError):
    """This process does not lead, or not for long enough; nothing was written."""

    transient: ClassVar[bool] = True


class FencedStore(WrappedStore):
    """A store whose changes raise NotLeading unless the lead certainly outlives them.

    Otherwise a write that was pending in a paused process would undo what its successor has written.
    """

    def __init__(self, store: ObjectStore, leadership: Leadership, write_seconds: float) -> None:
        """`write_seconds`: the longest time that one change may take."""
        super().__init__(store)
        self.heartbeat = Heartbeat()
        """Beats with each request that succeeded."""
        self.leadership = leadership
        self.write_seconds = write_seconds

    def around(self, operation: StoreOperation, call: Callable[[], T]) -> T:
        if operation in CHANGES and not self.leadership.leads(self.write_seconds):
            raise NotLeading("Another adapter leads, or will in a moment: this one writes nothing.")
        result = call()
        self.heartbeat.beat()
        return result


@dataclass(frozen=True, slots=True)
class Connection(Extensible):
    """projects/<key>/connection.json."""

    overrides: dict[str, str] = field(default_factory=dict)
    """Run parameters from /setup's extra_params."""
    seen_url: str = ""
    """The URL by which Label Studio reaches us: it identifies our backend among the project's."""
    paused: bool = False
    refreshed: str | None = None
    """The version whose predictions and title Label Studio has."""
    format: int = FORMAT


class PromotionResult(StrEnum):
    """What became of a published version."""

    PROMOTED = "promoted"
    HELD = "held"
    STALE = "stale"
    """Held, because it was compared with a version that is no longer served."""
    REFUSED = "refused"
    """It cannot be loaded, or failed its smoke test."""


@dataclass(frozen=True, slots=True)
class VersionOutcome(Extensible):
    """projects/<key>/verdicts/<version>.json."""

    version: str
    fate: PromotionResult
    sentence: str
    at: float
    term: int = 0
    """The leader's term; 0 if an earlier release wrote it."""
    format: int = FORMAT


@dataclass(frozen=True, slots=True)
class ProjectDocuments:
    """The documents of one project."""

    store: ObjectStore
    project_key: str

    def connection(self) -> Connection:
        """Return how the project is connected; the defaults if nothing was stored."""
        key = self._key("connection")
        try:
            return documents.load(Connection, self.store.read(key), key)
        except NotFound:
            return Connection()

    def write_connection(self, connection: Connection) -> None:
        self.store.write(self._key("connection"), documents.dump(connection))

    def outcome(self, version: str) -> VersionOutcome | None:
        """Return what became of a version; None while it is not decided."""
        key = self._key(f"verdicts/{version}")
        try:
            return documents.load(VersionOutcome, self.store.read(key), key)
        except NotFound:
            return None

    def write_outcome(self, outcome: VersionOutcome) -> None:
        self.store.write(self._key(f"verdicts/{outcome.version}"), documents.dump(outcome))

    def _key(self, name: str) -> str:
        return f"projects/{self.project_key}/{name}.json"
