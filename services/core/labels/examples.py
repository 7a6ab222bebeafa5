"""From the label index to the examples of a model: one for each text, with the labels that were left out. Pure.

Tasks with the same text are one example. Each of them is one vote, by the rule for annotations: ground truth wins, then the
majority, and a tie needs a third opinion. Where a text may have several labels, a vote is for all of them together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.domain import LabelSpace, Uncounted
from services.core.labels.index import LabelIndex, Rows
from services.core.labels.rows import GROUND_TRUTH, NO_LABEL, NO_TEXT, TIE, LabelSet
from services.core.labels.uncounted import Cause, summarise

Numbers = NDArray[np.int64]


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """What a run would train on."""

    rows: Rows
    """(examples,) of ROW, sorted by text key: of the tasks that agree, the one with the lowest id."""
    agreeing: Numbers
    """(agreeing tasks,) positions in the index of all tasks whose vote is the example's label, sorted."""
    third_opinion: Numbers
    """Ids of tasks whose annotators, or whose duplicates' labels, are tied, sorted."""
    causes: Mapping[Cause, int]
    """Annotations and tasks that gave no example, by cause; skipped annotations are not among them."""
    label_sets: tuple[LabelSet, ...] = ()
    """Those of the index."""

    def labels(self, space: LabelSpace) -> list[tuple[str, ...]]:
        """Return the labels of each example: exactly one, unless a text may have several."""
        sets = self.label_sets if space.multiple else [(number,) for number in range(len(space.labels))]
        named = [tuple(space.labels[label] for label in labels) for labels in sets]
        return [named[number] for number in self.rows["label"].tolist()]

    def counts(self, space: LabelSpace) -> dict[str, int]:
        """Return the examples of each label of the space."""
        sets = len(self.label_sets) if space.multiple else len(space.labels)
        found = np.bincount(self.rows["label"], minlength=sets).tolist()
        if not space.multiple:
            return dict(zip(space.labels, found, strict=True))
        counts = dict.fromkeys(space.labels, 0)
        for labels, number in zip(self.label_sets, found, strict=True):
            for label in labels:
                counts[space.labels[label]] += number
        return counts

    def not_counted(self, space: LabelSpace, skipped: int) -> tuple[Uncounted, ...]:
        """Summarise what was left out. `skipped` is Label Studio's count: it does not send every skipped annotation."""
        return summarise({**self.causes, Cause("cancelled"): skipped}, space)


def words_of(labels: Sequence[str]) -> str:
    """Return the labels of a text for people."""
    return ", ".join(labels) or "no label"


def examples_of(index: LabelIndex) -> Examples:
    """Return the examples of an index."""
    rows = index.rows
    has_text = rows["text_key"] != NO_TEXT
    voting = np.flatnonzero(index.voting)
    voting = voting[
        np.argsort(rows["text_key"][voting], kind="stable")
    ]  # of equal texts the lowest task id first
    groups, winners = _decide(rows[voting])
    agrees = rows["label"][voting] == winners[groups]
    is_tied = winners[groups] == NO_LABEL
    first = _first_of_each(groups[agrees])
    agreeing = voting[agrees]
    causes = _annotation_causes(index)
    causes[Cause("no_text")] = int((~has_text).sum())
    causes[Cause("duplicate_text")] = int(agrees.sum()) - len(first)
    causes[Cause("conflicting_duplicates")] = int(is_tied.sum())
    causes[Cause("outvoted_duplicate")] = len(voting) - int(agrees.sum()) - int(is_tied.sum())
    tied = np.flatnonzero(has_text & ((rows["flags"] & TIE) > 0))
    third = np.unique(rows["task"][np.concatenate([tied, voting[is_tied]])])
    return Examples(rows[agreeing[first]], np.sort(agreeing), third, +causes, index.label_sets)


def _decide(voting: Rows) -> tuple[Numbers, NDArray[np.int32]]:
    """Return the group of each row (rows with equal text keys, numbered from 0), and the label that each group agrees on."""
    groups = _groups(voting["text_key"])
    number = int(groups[-1]) + 1 if len(groups) else 0
    is_true = (voting["flags"] & GROUND_TRUTH) > 0
    has_true = np.zeros(number, np.bool_)
    has_true[groups[is_true]] = True
    eligible = is_true | ~has_true[groups]
    ballots = np.stack([groups[eligible], voting["label"][eligible].astype(np.int64)])
    (group, label), votes = np.unique(ballots, axis=1, return_counts=True)
    most = np.zeros(number, np.int64)
    np.maximum.at(most, group, votes)
    leads = votes == most[group]
    winners = np.full(number, NO_LABEL, np.int32)
    winners[group[leads]] = label[leads]
    winners[np.bincount(group[leads], minlength=number) > 1] = NO_LABEL
    return groups, winners


def _groups(keys: NDArray[np.uint64]) -> Numbers:
    """Number sorted keys from 0; equal ones share a number."""
    return np.cumsum(np.concatenate([[False], keys[1:] != keys[:-1]])[: len(keys)], dtype=np.int64)


def _first_of_each(groups: Numbers) -> Numbers:
    """Return the position of the first member of each group."""
    return np.unique(groups, return_index=True)[1]


def _annotation_causes(index: LabelIndex) -> Counter[Cause]:
    found: Counter[Cause] = Counter()
    tasks = np.bincount(index.rows["causes"], minlength=len(index.causes)).tolist()
    for causes, number in zip(index.causes, tasks, strict=True):
        for cause, count in causes:
            found[cause] += count * number
    return found
