"""Which of the labels that a version lists as suspect people have checked since, by the label index. Pure.

As the next version will see it (trainer/evaluation/label_checks.py): the task's annotations were edited since, or are gone, or it is
ground truth. While an annotator is outvoted nothing is confirmed: the newest time may be that of the one who disagrees.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from services.core.domain import SuspectLabel, SuspectLabels
from services.core.labels.index import LabelIndex
from services.core.labels.rows import GROUND_TRUTH


def without_checked(found: SuspectLabels, index: LabelIndex) -> SuspectLabels:
    """Leave out labels that were checked since they were listed. What an earlier release has listed says no time, and stays."""
    places = _places(index, [row.task_id for row in found.rows])
    rows = zip(found.rows, places.tolist(), strict=True)
    kept = tuple(row for row, place in rows if not row.changed_at or not _is_checked(row, index, place))
    checked = len(found.rows) - len(kept)
    return replace(found, rows=kept, count=found.count - checked, checked=found.checked + checked)


def _places(index: LabelIndex, tasks: list[int]) -> NDArray[np.int64]:
    """Return the row of each task; -1 of one without annotations."""
    if not len(index):
        return np.full(len(tasks), -1)
    wanted = np.array(tasks, np.int64)
    places = np.minimum(np.searchsorted(index.tasks, wanted), len(index) - 1)
    return np.where(index.tasks[places] == wanted, places, -1)


def _is_checked(listed: SuspectLabel, index: LabelIndex, place: int) -> bool:
    if place < 0:
        return True
    row = index.rows[place]
    if row["flags"] & GROUND_TRUTH:
        return True
    is_same = row["newest_annotation"] == listed.annotation
    is_outvoted = any(cause.reason == "outvoted" for cause, _ in index.causes[row["causes"]])
    return bool(row["changed_at"] > listed.changed_at) and not (is_same and is_outvoted)
