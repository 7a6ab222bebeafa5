"""The board: the status of all projects in memory; `board_file` publishes it to the followers.

The controller (or the follower, if another process leads) writes the board; routes read it without waiting for anything.
Views are frozen and replaced whole, so a reader sees one consistent state.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from services.adapter.state.help import HelpMeasures
from services.core.domain import (
    Estimate,
    EstimateErrors,
    ExpectedAccuracy,
    LabelSpace,
    Outlook,
    PoolState,
    Project,
    RunStatus,
    Served,
    Uncounted,
)


@dataclass(frozen=True, slots=True)
class Agreement:
    """How many of the last annotations that had a suggestion agreed with it."""

    agreed: int
    annotations: int


@dataclass(frozen=True, slots=True)
class CurrentVersion:
    """The version in effect."""

    version: str
    method: str
    engine: str
    estimate: Estimate
    created_at: float
    outlook: Outlook | None = None
    """What twice as many labels would bring; None if that cannot be said."""
    expected: ExpectedAccuracy | None = None
    """None of a version of an earlier release."""
    is_evaluated: bool = True
    """Whether labels say how often its answers are right."""


@dataclass(frozen=True, slots=True)
class LatestDecision:
    """The gate's decision on the newest version."""

    promote: bool
    kind: str
    """See GateDecision.kind."""
    at: float
    """When the version was made."""
    truncation: str = ""
    """That texts were truncated, and what to do; "" if none was."""


@dataclass(frozen=True, slots=True)
class Figures:
    """A project's figures for metrics, beside its view. Times are seconds since the epoch; None: there is none."""

    oldest_waiting_at: float | None = None
    """When the oldest of the changed labels was made."""
    last_event_at: float | None = None
    """When Label Studio last sent an event of the project."""
    stored_bytes: int | None = None
    failed_in_a_row: int = 0
    """Runs that failed since the last one that did not."""
    held_in_a_row: int = 0
    """Versions that were not promoted since the current one was."""
    requested_at: float | None = None
    """When the active run was requested."""
    started_at: float | None = None
    """When the first process of the active run started."""
    pending: str = ""
    """What the active run, or one that is about to start, waits for: see Pending."""
    current: CurrentVersion | None = None
    rollout: str = "settled"
    """`settled`, `moving` or `blocked`."""
    rollout_since: float | None = None
    agreement: Agreement | None = None
    """None until Label Studio was queried."""
    help: HelpMeasures | None = None
    """None until Label Studio was queried, and from an earlier release."""
    judged: LatestDecision | None = None
    """None if no version was published yet, or the newest one was deleted."""
    pool: PoolState | None = None
    """The unlabelled tasks when a run last read them; None if none has."""
    estimates: EstimateErrors | None = None
    """How far the expected accuracy of the last versions was off; None before any was scored."""


@dataclass(frozen=True, slots=True)
class ProjectView:
    """One project as people and Label Studio see it."""

    project: Project
    space: LabelSpace | None = None
    """None: the label config offers nothing to predict, and `problem` says what is missing."""
    served: Served = field(default_factory=Served)
    labelled: int = 0
    """Tasks with a usable annotation, at the last poll."""
    changed: int = 0
    """Labelled tasks changed since the labels of the last run."""
    needed: int = 0
    """Changes that start a run."""
    sentence: str = ""
    """What the project is doing: "waiting: 6 of 10 labels changed"."""
    problem: str = ""
    """What is wrong and what to do; "" if nothing is."""
    active: RunStatus | None = None
    embedding: RunStatus | None = None
    """The active run that computes features of unlabelled texts."""
    waiting: str = ""
    """Why no process works on the active run yet; "" while one does."""
    last: RunStatus | None = None
    pending: bool = False
    """A run was requested while one is active."""
    paused: bool = False
    checked_at: float = 0.0
    """When Label Studio was last polled successfully for this project."""
    hints: tuple[str, ...] = ()
    """Advice: what works and could be better, and what to do."""
    figures: Figures = field(default_factory=Figures)
    not_counted: tuple[Uncounted, ...] = ()
    """Annotations that do not count, by reason, at the last poll."""
    is_read: bool = True
    """False: only what it serves is known so far."""
    foreign: tuple[str, ...] = ()
    """Served versions that were made for another control: nothing is predicted with them."""
    version_names: tuple[str, ...] = ()
    """The versions published last, newest first."""
    own_models: tuple[str, ...] = ()
    """Served versions whose answers a class of the operator's computes."""
    unevaluated: tuple[str, ...] = ()
    """Served versions that were not evaluated: their suggestions show no probability."""


def effective_served(served: Served, now: float) -> Served:
    """Return what is in effect at `now`: until `since`, a version that replaces another one is its target."""
    if now >= served.since:
        return served
    return replace(served, current=served.previous, previous=None, target=served.current)


class Board:
    """All views, by Label Studio's project id."""

    def __init__(self) -> None:
        """Start empty and not ready: /setup answers 503 until the state has been read once."""
        self._views: Mapping[int, ProjectView] = MappingProxyType({})
        self._lock = threading.Lock()
        self.ready = threading.Event()
        self.is_leader = False
        """Whether this process leads and has read the state: then it exports the metrics of all projects."""
        self.store_problem = ""
        """Why the store cannot be read or written at the moment; "" while it can. Views then show the state before."""

    @property
    def views(self) -> Mapping[int, ProjectView]:
        """A consistent picture of all projects."""
        return self._views

    def view(self, project_id: int) -> ProjectView | None:
        """Return one project; None before it is known."""
        return self._views.get(project_id)

    def put(self, view: ProjectView) -> None:
        """Replace a project's view."""
        with self._lock:
            self._views = MappingProxyType({**self._views, view.project.id: view})

    def replace(self, views: Iterable[ProjectView]) -> None:
        """Replace all views."""
        with self._lock:
            self._views = MappingProxyType({view.project.id: view for view in views})

    def remove(self, project_id: int) -> None:
        """Remove a project that Label Studio no longer has."""
        with self._lock:
            self._views = MappingProxyType(
                {key: view for key, view in self._views.items() if key != project_id}
            )
