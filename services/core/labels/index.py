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
from services.core.errors import CorruptLabels
from services.core.labels.rows import (
    COUNTED,
    NO_LABEL,
    NO_SIGNATURE,
    NO_TEXT,
    ROW,
    Causes,
    LabelRow,
    LabelSet,
    signature_number,
)
from services.core.labels.uncounted import Cause

Rows = NDArray[np.void]
TaskIds = NDArray[np.int64]
Signatures = NDArray[np.uint64]
_GONE: Final = -2
"""The number of a set of labels that no row has any more."""
_MAX_CAUSES: Final = 1000
"""Different causes that are kept with examples; beyond it new ones are kept without."""


@dataclass(frozen=True, eq=False)
class LabelIndex:
    """The labels of one project."""

    rows: Rows
    """(tasks,) of ROW, sorted by task, each task once."""
    causes: tuple[Causes, ...] = ((),)
    """What the rows' `causes` refer to; never shortened, so that rows keep their meaning."""
    label_sets: tuple[LabelSet, ...] = ()
    """What the rows' `label` refers to if a text may have several labels; () if it refers to the space's labels."""

    @classmethod
    def of(cls, rows: Iterable[LabelRow]) -> LabelIndex:
        """Build an index; of several rows of a task the last one counts."""
        known: dict[Causes, int] = {(): 0}
        sets: dict[LabelSet, int] = {}
        by_task = {
            row.task: row._replace(
                causes=_intern(known, row.causes),  # type: ignore[arg-type]  # from here on an index
                label=row.label if isinstance(row.label, int) else sets.setdefault(row.label, len(sets)),
            )
            for row in rows
        }
        return cls(np.array(sorted(by_task.values()), ROW), tuple(known), tuple(sets))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[LabelRow]:
        for row in self.rows.tolist():
            found = dict(zip(ROW.names or (), row, strict=True))
            is_set = self.label_sets and found["label"] != NO_LABEL
            label = self.label_sets[found["label"]] if is_set else found["label"]
            yield LabelRow(**{**found, "causes": self.causes[found["causes"]], "label": label})

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

    def upsert(self, rows: Iterable[LabelRow], removed: Iterable[int] = ()) -> LabelIndex:
        """Return an index with these rows added or replaced, and these tasks removed; a task in both is kept."""
        return self.merge(LabelIndex.of(rows), np.fromiter(removed, np.int64))

    def merge(self, upserts: LabelIndex, removed: TaskIds) -> LabelIndex:
        """Do the same with rows in an index. Raises CorruptLabels if only one of the two has sets of labels."""
        if not len(upserts) and not len(removed):
            return self
        _refuse_mixed(self, upserts)
        known = {causes: number for number, causes in enumerate(self.causes)}
        sets = {labels: number for number, labels in enumerate(self.label_sets)}
        new = _renumbered(
            upserts.rows,
            [_intern(known, causes) for causes in upserts.causes],
            [sets.setdefault(labels, len(sets)) for labels in upserts.label_sets],
        )
        kept = self.rows[~np.isin(self.tasks, np.concatenate([new["task"], removed]))]
        rows = np.insert(kept, np.searchsorted(kept["task"], new["task"]), new)
        return LabelIndex(rows, tuple(known), tuple(sets))

    def compact(self) -> LabelIndex:
        """Return the same index with tables of only what rows refer to."""
        used, numbers = np.unique(np.append(self.rows["causes"], 0), return_inverse=True)
        rows = self.rows.copy()
        rows["causes"] = numbers[:-1]
        causes = tuple(self.causes[number] for number in used)
        if not self.label_sets:
            return LabelIndex(rows, causes)
        used, numbers = np.unique(np.append(rows["label"], NO_LABEL), return_inverse=True)
        rows["label"] = numbers[:-1] - 1  # NO_LABEL is the lowest
        return LabelIndex(rows, causes, tuple(self.label_sets[number] for number in used[1:]))


EMPTY: Final = LabelIndex(np.empty(0, ROW))


class LabelDelta(NamedTuple):
    """The difference between two indexes."""

    upserts: LabelIndex
    removed: TaskIds

    def __len__(self) -> int:
        return len(self.upserts) + len(self.removed)


def difference(before: LabelIndex, after: LabelIndex) -> LabelDelta:
    """Return what makes `after` of `before` by `merge`; raises CorruptLabels like it."""
    _refuse_mixed(before, after)
    numbers = {causes: number for number, causes in enumerate(after.causes)}
    sets = {labels: number for number, labels in enumerate(after.label_sets)}
    old = _renumbered(
        before.rows,
        [numbers.get(causes, -1) for causes in before.causes],
        [sets.get(labels, _GONE) for labels in before.label_sets],
    )
    places = np.searchsorted(old["task"], after.tasks)
    is_known = places < len(old)
    same = np.zeros(len(after), np.bool_)
    same[is_known] = old[places[is_known]] == after.rows[is_known]
    removed = np.setdiff1d(before.tasks, after.tasks, assume_unique=True)
    return LabelDelta(LabelIndex(after.rows[~same], after.causes, after.label_sets).compact(), removed)


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
        return hashlib.sha256(self.tasks.tobytes() + self.signatures.tobytes()).hexdigest()


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


def _refuse_mixed(*indexes: LabelIndex) -> None:
    kinds = {bool(one.label_sets) for one in indexes if (one.rows["label"] != NO_LABEL).any()}
    if len(kinds) > 1:
        raise CorruptLabels(
            "Sets of labels cannot be merged with single labels: all tasks are to be read again."
        )


def _intern(known: dict[Causes, int], causes: Causes) -> int:
    """Return the number of equal causes, which is the next one if they are new; without examples once there are many."""
    if causes not in known and len(known) >= _MAX_CAUSES:
        counts: dict[str, int] = {}
        for cause, count in causes:
            counts[cause.reason] = counts.get(cause.reason, 0) + count
        causes = tuple((Cause(reason), count) for reason, count in sorted(counts.items()))
    return known.setdefault(causes, len(known))


def _renumbered(rows: Rows, causes: list[int], label_sets: list[int]) -> Rows:
    """Return a copy of the rows that refers to other tables."""
    found = rows.copy()
    found["causes"] = np.array(causes, np.int32)[found["causes"]]
    if label_sets:
        found["label"] = np.array([*label_sets, NO_LABEL], np.int32)[found["label"]]  # -1 is the last one
    return found


def _marks(values: Any) -> NDArray[np.bool_]:
    return np.asarray(values, np.bool_)
