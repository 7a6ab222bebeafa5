"""What the adapter knows, in memory: the supervisor (or where another process leads, the follower) writes it, routes read it without waiting for anything.

Views are frozen and replaced whole, so a reader sees one consistent state.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

import structlog

from services.adapter.state.documents import NotLeading
from services.core import documents
from services.core.documents import FORMAT
from services.core.domain import Estimate, LabelSpace, Project, RunStatus, Served, Uncounted
from services.core.errors import StoreError
from services.core.store import ObjectStore

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the last annotations that had a suggestion agreed with it."""

    agreed: int
    annotations: int


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """Of the version that people are told of."""

    version: str
    method: str
    engine: str
    estimate: Estimate
    created_at: float


@dataclass(frozen=True, slots=True)
class LatestDecision:
    """What the gate decided of the newest version."""

    promote: bool
    kind: str
    """See GateDecision.kind."""
    at: float
    """When the version was made."""
    truncation: str = ""
    """That texts were cut, and what to do; "" where none was."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What metrics say of a project beside its view. Times are seconds since the epoch; None: there is nothing to say."""

    oldest_waiting_at: float | None = None
    """When the oldest of the changed labels was made."""
    last_event_at: float | None = None
    """When Label Studio last sent an event of it."""
    stored_bytes: int | None = None
    """Of all that is kept of it."""
    failed_in_a_row: int = 0
    """Runs that failed since the last one that did not."""
    held_in_a_row: int = 0
    """Versions that were not promoted since the current one was."""
    requested_at: float | None = None
    """When the active run was asked for."""
    started_at: float | None = None
    """When the first process of the active run began."""
    pending: str = ""
    """What the active run, or one that is to begin, waits for: see Pending."""
    current: CurrentVersion | None = None
    rollout: str = "settled"
    """`settled`, `moving` or `blocked`."""
    rollout_since: float | None = None
    agreement: Agreement | None = None
    """None where Label Studio was not asked yet."""
    judged: LatestDecision | None = None
    """None where no version was published yet, or the newest is deleted."""


@dataclass(frozen=True, slots=True)
class ProjectView:
    """One project as people and Label Studio are told of it."""

    project: Project
    space: LabelSpace | None = None
    """None: the label config offers nothing to predict, and `problem` says what is missing."""
    served: Served = field(default_factory=Served)
    labelled: int = 0
    """Tasks with a usable annotation, when Label Studio was last read."""
    changed: int = 0
    """Labelled tasks changed since the snapshot of the last run."""
    needed: int = 0
    """Changes that launch a run."""
    sentence: str = ""
    """The state in one sentence: "waiting: 6 of 10 labels changed"."""
    problem: str = ""
    """What is wrong and what to do; "" when nothing is."""
    active: RunStatus | None = None
    waiting: str = ""
    """Why no process works on the active run yet; "" while one does."""
    last: RunStatus | None = None
    pending: bool = False
    """A run was asked for while one is active."""
    paused: bool = False
    checked_at: float = 0.0
    """When Label Studio last answered for this project."""
    hints: tuple[str, ...] = ()
    """What works and could be better, and what to do."""
    figures: Figures = field(default_factory=Figures)
    not_counted: tuple[Uncounted, ...] = ()
    """Annotations that do not count, by reason, when Label Studio was last read."""
    foreign: tuple[str, ...] = ()
    """Served versions that were made for another control: nothing is predicted with them."""


def effective_served(served: Served, now: float) -> Served:
    """What people are told of at this moment: until `since`, a version that takes another's place is its target."""
    if now >= served.since:
        return served
    return replace(served, current=served.previous, previous=None, target=served.current)


class Board:
    """All views, by Label Studio's project id."""

    def __init__(self) -> None:
        """Empty, and not ready: /setup answers 503 until the state has been read once."""
        self._views: Mapping[int, ProjectView] = MappingProxyType({})
        self._lock = threading.Lock()
        self.ready = threading.Event()
        self.is_leader = False
        """Whether this process leads and has read the state: then it tells Prometheus of all projects."""
        self.store_problem = ""
        """Why the store cannot be read or written just now; "" while it can. What is shown is the state before."""

    @property
    def views(self) -> Mapping[int, ProjectView]:
        """A consistent picture of all projects."""
        return self._views

    def view(self, project_id: int) -> ProjectView | None:
        """One project, or None before it is known."""
        return self._views.get(project_id)

    def put(self, view: ProjectView) -> None:
        """Replace a project's view."""
        with self._lock:
            self._views = MappingProxyType({**self._views, view.project.id: view})

    def replace(self, views: Iterable[ProjectView]) -> None:
        """These, and no others."""
        with self._lock:
            self._views = MappingProxyType({view.project.id: view for view in views})

    def remove(self, project_id: int) -> None:
        """Forget a project that Label Studio no longer has."""
        with self._lock:
            self._views = MappingProxyType(
                {key: view for key, view in self._views.items() if key != project_id}
            )


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
                log.warning("board_not_published", reason=str(error))
            self._error = str(error)
        else:
            self._published, self._error = views, ""
