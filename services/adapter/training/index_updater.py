"""Brings the label index of one project up to date with Label Studio, and stores it.

Only tasks that changed since the stored state are read. The counts of the index must then lie between Label Studio's counts before
and after: an annotator may submit between two requests. Only if they do not twice in a row (tasks were deleted), if the question of the
label config is another one, or if the stored index cannot be read, everything is read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final, Protocol, TypeVar

import structlog

from services.core.domain import Counts, LabelSpace, LabelState, Project
from services.core.errors import CorruptLabels, StoreError
from services.core.labels.index import EMPTY, LabelIndex
from services.core.labels.rows import RULES, label_row
from services.core.labels.segments import LabelStore
from services.core.labelstudio.transport import PARSING
from services.core.store import ObjectStore

log = structlog.get_logger()
_COMMIT_DELAY: Final = timedelta(seconds=60)
"""A change has the time at which its request began, and is visible once committed: later ones may be visible before it."""
_BATCH: Final = 5000
"""Rows that are added to the index at once: adding copies the index."""
_TRIES: Final = 2
"""Counts that do not add up are believed after this many reads of what changed."""
T = TypeVar("T")


class LabelSource(Protocol):
    """The part of LabelStudio that polls use."""

    def project(self, project_id: int, newest_change: str | None = None) -> tuple[Project, Counts]:
        """Return the project and its counts, of which `newest_change` is known."""
        ...

    def newest(self, project_id: int) -> tuple[int, int, str]:
        """Return what a poll compares: tasks, annotations, and the time of the newest change."""
        ...

    def annotated_tasks(
        self, project_id: int, since: str | None = None, *, trust_counters: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Return the tasks with annotations, or all that changed since; found by Label Studio's counters if these are right."""
        ...

    def suggested_tasks(self, project_id: int, most: int, *, texts: bool = False) -> list[dict[str, Any]]:
        """Return the annotated tasks changed last, with their stored predictions; with their data as well if `texts`."""
        ...


@dataclass(slots=True)
class IndexUpdater:
    """The label index of one project, as it is stored. Only one thread at a time may use it."""

    source: LabelSource
    store: ObjectStore
    project_id: int
    index: LabelIndex = EMPTY
    state: LabelState | None = None
    """The stored state of `index`; None before the first read of a project that has none."""
    _loaded: str = ""
    """The key of the project whose state was loaded."""

    def update(
        self,
        project: Project,
        counts: Counts,
        newest: tuple[int, int, str],
        space: LabelSpace | None,
        kept: Iterable[LabelState],
        now: float,
    ) -> LabelState:
        """Read what changed, and store it; return the state. Raises FitloopError, and then everything stays as it was.

        `newest`: what `LabelSource.newest` returned before project and counts were read. `kept`: other states that are in use, whose
        segments are not deleted.
        """
        labels = LabelStore(self.store, project.key)
        self._load(labels)
        found = self._read_changes(space, counts) if self._has_answers_to(space) else None
        index, counts = found or self._read_all(space, counts, newest)
        state = LabelState((), space, project.label_config_hash, index.digest, 0, counts, now, RULES)
        if self.state is None or index is not self.index or not _is_same(self.state, state):
            self._write(labels, state, index, kept, now)
        self.index = index
        return self.state or state

    def forget_if_damaged(self) -> None:
        """Have everything read again if a segment is missing from the bucket: no run could read its labels. Raises StoreError."""
        if self.state and not LabelStore(self.store, self._loaded).is_complete(self.state):
            log.warning("label_index_unreadable", project=self.project_id, reason="A segment is missing.")
            self.state, self.index = None, EMPTY

    def _load(self, labels: LabelStore) -> None:
        if self._loaded == labels.project_key:
            return
        head, index = labels.head(), EMPTY
        try:
            index = labels.load(head) if head else EMPTY
        except CorruptLabels as error:
            log.warning("label_index_unreadable", project=self.project_id, reason=str(error))
            head = None
        self.state, self.index, self._loaded = head, index, labels.project_key

    def _has_answers_to(self, space: LabelSpace | None) -> bool:
        """Return whether the rows are answers to this question, by these rules."""
        return (
            self.state is not None
            and self.state.rules == RULES
            and _question(self.state.space) == _question(space)
        )

    def _read_changes(self, space: LabelSpace | None, counts: Counts) -> tuple[LabelIndex, Counts] | None:
        """Return the index with all changes, and its counts; None if they do not add up."""
        known, index = self.state, self.index
        if known is None or counts == known.counts:
            return self.index, counts
        extra = _difference(index.totals, _totals(known.counts))
        since = _before_commit_delay(known.counts.newest_change)
        for _ in range(_TRIES):
            index = self._read(space, since, index)
            found = _difference(index.totals, extra)
            if found == _totals(counts):
                return index, counts
            after = self.source.project(self.project_id, counts.newest_change)[1]
            if _is_between(found, _totals(counts), _totals(after)):
                return index, _with_totals(counts, found)
            counts = after
        log.info("labels_do_not_add_up", project=self.project_id, known=index.totals, found=_totals(counts))
        return None

    def _read_all(
        self, space: LabelSpace | None, counts: Counts, newest: tuple[int, int, str]
    ) -> tuple[LabelIndex, Counts]:
        """Return the index of all tasks, and its counts. A difference although nothing has changed since is Label Studio's own.

        `newest` sums the counters that Label Studio stores with each task, `counts` counts the annotations themselves.
        """
        trust = newest[1] >= counts.annotations
        if not trust:
            log.info(
                "label_studio_counters_too_low",
                project=self.project_id,
                known=newest[1],
                found=counts.annotations,
            )
        index = self._read(space, None, EMPTY, trust_counters=trust)
        if index.totals != _totals(counts) and self.source.newest(self.project_id) != newest:
            counts = _with_totals(counts, index.totals)
        return index, counts

    def _read(
        self, space: LabelSpace | None, since: str | None, index: LabelIndex, *, trust_counters: bool = True
    ) -> LabelIndex:
        tasks = self.source.annotated_tasks(self.project_id, since, trust_counters=trust_counters)
        for batch in _batches(tasks, _BATCH):
            with PARSING:
                rows = [(int(task["id"]), label_row(space, task)) for task in batch]
                index = index.upsert(
                    (row for _, row in rows if row), (task for task, row in rows if row is None)
                )
        return index

    def _write(
        self, labels: LabelStore, state: LabelState, index: LabelIndex, kept: Iterable[LabelState], now: float
    ) -> None:
        # Numbers of labels mean something else where the question is another: nothing of it can be kept.
        is_same = self.state is not None and self._has_answers_to(state.space)
        before = (self.state, self.index) if self.state and is_same else None
        try:
            found = labels.write(state, index, before)
        except CorruptLabels:  # a delta that was to be merged
            found = labels.write(state, index)
        old, self.state, self.index = self.state, found, index
        if old and not set(old.segments) <= set(found.segments):
            try:
                labels.delete_unreferenced([found, old, *kept], now)
            except StoreError as error:  # the next time that segments are merged deletes them
                log.warning("label_segments_not_deleted", project=self.project_id, reason=str(error))


def _is_same(state: LabelState, other: LabelState) -> bool:
    """Return whether two states of one index differ in nothing but when they were read."""
    return replace(other, segments=state.segments, labelled=state.labelled, read_at=state.read_at) == state


def _question(space: LabelSpace | None) -> LabelSpace | None:
    """Return what decides which labels annotations give; note and names say nothing about it."""
    return replace(space, note="", names=()) if space else None


Totals = tuple[int, int]


def _totals(counts: Counts) -> Totals:
    return counts.annotated_tasks, counts.annotations


def _with_totals(counts: Counts, totals: Totals) -> Counts:
    return replace(counts, annotated_tasks=totals[0], annotations=totals[1])


def _difference(totals: Totals, others: Totals) -> Totals:
    return totals[0] - others[0], totals[1] - others[1]


def _is_between(totals: Totals, before: Totals, after: Totals) -> bool:
    """Return whether each number lies between what it was and what it is, which differ while people submit."""
    return all(
        min(one, other) <= number <= max(one, other)
        for number, one, other in zip(totals, before, after, strict=True)
    )


def _batches(rows: Iterable[T], size: int) -> Iterator[Sequence[T]]:
    remaining = iter(rows)
    while batch := list(islice(remaining, size)):
        yield batch


def _before_commit_delay(stamp: str) -> str | None:
    """Return an ISO 8601 time earlier by the commit delay; None for none."""
    if not stamp:
        return None
    return f"{(datetime.fromisoformat(stamp) - _COMMIT_DELAY).astimezone(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
