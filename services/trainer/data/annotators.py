"""How annotators agree with each other, from the label index. Pure.

The index has no single votes: of each task it has the number of annotations, the label that won, and how many annotations lost.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain import Disagreement, LabelDisagreement
from services.core.labels.index import LabelIndex
from services.core.labels.rows import GROUND_TRUTH, NO_LABEL, TIE, Causes

MAX_TASKS: Final = 100
"""Example tasks that a report lists."""
MAX_LABELS: Final = 20
"""Labels that a report lists."""
_LOST: Final = frozenset({"outvoted", "tied"})
"""Reasons of annotations that are votes of their own, for another label than the one that won."""


def measure_disagreement(index: LabelIndex, labels: tuple[str, ...]) -> Disagreement:
    """Compare the votes of each task that has two or more, and no ground truth; `labels`: those of the label space."""
    rows = index.rows
    unused, lost = (np.array(counts, np.int64)[rows["causes"]] for counts in _counts(index.causes))
    votes = rows["annotations"].astype(np.int64) - unused
    compared = (votes >= 2) & ((rows["flags"] & GROUND_TRUTH) == 0)
    tied = compared & ((rows["flags"] & TIE) > 0)
    disagree = compared & ((lost > 0) | tied)
    order = np.lexsort([rows["task"], ~tied])
    return Disagreement(
        tasks=int(compared.sum()),
        agreed=int((compared & ~disagree).sum()),
        tied=int(tied.sum()),
        examples=tuple(rows["task"][order[disagree[order]]][:MAX_TASKS].tolist()),
        per_label=() if index.label_sets else _per_label(rows["label"], compared & ~tied, disagree, labels),
    )


def _counts(causes: tuple[Causes, ...]) -> tuple[list[int], list[int]]:
    """Return, for each entry of the table, how many annotations are no vote, and how many are votes that lost."""
    unused = [sum(count for cause, count in entry if cause.reason not in _LOST) for entry in causes]
    return unused, [sum(count for cause, count in entry if cause.reason in _LOST) for entry in causes]


def _per_label(
    winners: NDArray[np.int32],
    decided: NDArray[np.bool_],
    disagree: NDArray[np.bool_],
    labels: tuple[str, ...],
) -> tuple[LabelDisagreement, ...]:
    """Return the labels with the most tasks that were decided against a vote for another label."""
    decided = decided & (winners != NO_LABEL)
    tasks = np.bincount(winners[decided], minlength=len(labels))
    contested = np.bincount(winners[decided & disagree], minlength=len(labels))
    most = np.argsort(-contested, kind="stable")[:MAX_LABELS]
    return tuple(
        LabelDisagreement(labels[number], int(tasks[number]), int(tasks[number] - contested[number]))
        for number in most.tolist()
        if contested[number]
    )
