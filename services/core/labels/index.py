"""The label index of one project: a row for every labelled task, in arrays of 47 bytes a task. Pure.

An index never changes: `merge` and `upsert` return a new one. The same labels give the same rows and the same digest, in
whatever order they were read. A baseline keeps what is needed to count changes since a run: 16 bytes a task.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from services.core.domain import Snapshot
from services.core.labels.rows import (
    COUNTED,
    NO_LABEL,
    NO_SIGNATURE,
    NO_TEXT,
    ROW,
    Causes,
    LabelRow,
    signature_number,
)
from services.core.labels.uncounted import Cause

Rows = NDArray[np.void]
TaskIds = NDArray[np.int64]
Signatures = NDArray[np.uint64]
_MAX_CAUSES: Final = 1000
"""Different causes that are kept with examples; beyond it new ones are kept without."""


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """The labels of one project."""

    rows: Rows
    """(tasks,) of ROW, sorted by task, each task once."""
    causes: tuple[Causes, ...] = ((),)
    """What the rows' `causes` refer to; never shortened, so that rows keep their meaning."""

    @classmethod
    def of(cls, rows: Iterable[LabelRow]) -> LabelIndex:
        """Build an index; of several rows of a task the last one counts."""
        known: dict[Causes, int] = {(): 0}
        by_task = {row.task: row._replace(causes=_intern(known, row.causes)) for row in rows}  # type: ignore[arg-type]  # from here on an index
        found = np.array(sorted(by_task.values()), ROW)
        return cls(found, tuple(known))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LabelRow]:
        for row in self.rows.tolist():
            found = dict(zip(ROW.names or (), row, strict=True))
            yield LabelRow(**{**found, "causes": self.causes[found["causes"]]})

    @property
    def tasks(self) -> TaskIds:
        """(tasks,) ids, ascending."""
        return self.rows["task"]

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """(tasks,) whether the task has a usable annotation."""
        return _marks(self.rows["signature"] != NO_SIGNATURE)

    @property
    def voting(self) -> NDArray[np.bool_]:
        """(tasks,) whether the task has a text and a label, so that it may give an example."""
        return _marks((self.rows["text_key"] != NO_TEXT) & (self.rows["label"] != NO_LABEL))

    @cached_property
    def totals(self) -> tuple[int, int]:
        """Annotated tasks and annotations, as Label Studio counts them."""
        counted = (self.rows["flags"] & COUNTED) > 0
        return int(counted.sum()), int(self.rows["annotations"].sum(dtype=np.int64))

    @cached_property
    def digest(self) -> str:
        """Return the sha256 of tasks and signatures: 64 hex digits that are equal for equal labels."""
        return Baseline.of(self).digest

    @property
    def nbytes(self) -> int:
        """Memory of the rows."""
        return self.rows.nbytes

    def upsert(self, rows: Iterable[LabelRow], removed: Iterable[int] = ()) -> LabelIndex:
        """Return an index with these rows added or replaced, and these tasks removed; a task in both is kept."""
        return self.merge(LabelIndex.of(rows), np.fromiter(removed, np.int64))

    def merge(self, upserts: LabelIndex, removed: TaskIds) -> LabelIndex:
        """Return an index with the rows of `upserts` added or replaced, and these tasks removed; a task in both is kept."""
        if not len(upserts) and not len(removed):
            return self
        known = {causes: number for number, causes in enumerate(self.causes)}
        new = _renumbered(upserts.rows, [_intern(known, causes) for causes in upserts.causes])
        kept = self.rows[~np.isin(self.tasks, np.concatenate([new["task"], removed]))]
        rows = np.insert(kept, np.searchsorted(kept["task"], new["task"]), new)
        return LabelIndex(rows, tuple(known))

    def compact(self) -> LabelIndex:
        """Return the same index with a table of only the causes that rows have."""
        used, numbers = np.unique(np.append(self.rows["causes"], 0), return_inverse=True)
        rows = self.rows.copy()
        rows["causes"] = numbers[:-1]
        return LabelIndex(rows, tuple(self.causes[number] for number in used))


EMPTY: Final = LabelIndex(np.empty(0, ROW))


class LabelDelta(NamedTuple):
    """The difference between two indexes."""

    upserts: LabelIndex
    removed: TaskIds

    def __len__(self) -> int:
        return len(self.upserts) + len(self.removed)


def difference(before: LabelIndex, after: LabelIndex) -> LabelDelta:
    """Return what makes `after` of `before` by `merge`."""
    numbers = {causes: number for number, causes in enumerate(after.causes)}
    old = _renumbered(before.rows, [numbers.get(causes, -1) for causes in before.causes])
    places = np.searchsorted(old["task"], after.tasks)
    is_known = places < len(old)
    same = np.zeros(len(after), np.bool_)
    same[is_known] = old[places[is_known]] == after.rows[is_known]
    removed = np.setdiff1d(before.tasks, after.tasks, assume_unique=True)
    return LabelDelta(LabelIndex(after.rows[~same], after.causes).compact(), removed)


class Changes(NamedTuple):
    """Labelled tasks that were added, edited or removed since a baseline."""

    tasks: int
    oldest: float | None
    """When the oldest of the labels that are still there was changed, in seconds since the epoch; None if there is none."""


@dataclass(frozen=True, eq=False)
class Baseline:
    """The labels that a run was made of."""

    tasks: TaskIds
    """(tasks,) ids, ascending."""
    signatures: Signatures

    @classmethod
    def of(cls, index: LabelIndex) -> Baseline:
        """Return the labelled tasks of an index."""
        rows = index.rows[index.labelled]
        return cls(np.ascontiguousarray(rows["task"]), np.ascontiguousarray(rows["signature"]))

    @classmethod
    def of_snapshot(cls, snapshot: Snapshot) -> Baseline:
        """Return the labels that a run of release 0.1.0 has read."""
        tasks = np.fromiter((int(task) for task in snapshot.tasks), np.int64)
        marks = np.fromiter(map(signature_number, snapshot.tasks.values()), np.uint64)
        order = np.argsort(tasks)
        return cls(tasks[order], marks[order])

    @property
    def digest(self) -> str:
        """Return the digest of the index that it was made of."""
        found = hashlib.sha256(self.tasks.tobytes())
        found.update(self.signatures.tobytes())
        return found.hexdigest()


NOTHING: Final = Baseline(np.empty(0, np.int64), np.empty(0, np.uint64))
"""The baseline before the first run: every label is new."""


def changed(index: LabelIndex, baseline: Baseline) -> Changes:
    """Count the labelled tasks that were added, edited or removed since the baseline."""
    rows = index.rows[index.labelled]
    places = np.searchsorted(baseline.tasks, rows["task"])
    is_known = places < len(baseline.tasks)
    is_known[is_known] = baseline.tasks[places[is_known]] == rows["task"][is_known]
    is_same = is_known.copy()
    is_same[is_known] = baseline.signatures[places[is_known]] == rows["signature"][is_known]
    times = rows["changed_at"][~is_same]
    times = times[times > 0]
    removed = len(baseline.tasks) - int(is_known.sum())
    return Changes(int((~is_same).sum()) + removed, float(times.min()) if len(times) else None)


def _intern(known: dict[Causes, int], causes: Causes) -> int:
    """Return the number of equal causes, which is the next one if they are new; without examples once there are many."""
    if causes not in known and len(known) >= _MAX_CAUSES:
        counts: dict[str, int] = {}
        for cause, count in causes:
            counts[cause.reason] = counts.get(cause.reason, 0) + count
        causes = tuple((Cause(reason), count) for reason, count in sorted(counts.items()))
    return known.setdefault(causes, len(known))


def _renumbered(rows: Rows, numbers: list[int]) -> Rows:
    """Return a copy of the rows whose `causes` refer to another table."""
    found = rows.copy()
    found["causes"] = np.array(numbers, np.int32)[found["causes"]]
    return found


def _marks(values: Any) -> NDArray[np.bool_]:
    return np.asarray(values, np.bool_)
