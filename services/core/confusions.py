"""The most frequent confusions of a report, for pages and the command line. Pure.

A report of an earlier release lists none: then they come from its confusion matrix and its most confident errors.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from services.core.domain import Confusion, Report

_MAX_TASKS = 2
"""Example tasks of each, as in a report."""


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """Evaluated texts of one label that were predicted as another."""

    true: str
    predicted: str
    texts: int
    judged: int
    """All evaluated texts with the true label; 0 if that is not known."""
    tasks: tuple[int, ...]
    """Example tasks, the most confident prediction first."""

    @property
    def share(self) -> float | None:
        """The share of the true label's texts; None if it is not known."""
        return self.texts / self.judged if self.judged else None


def largest_confusions(report: Report) -> tuple[ConfusedPair, ...]:
    """Return the pairs of labels with the most errors, the most frequent first."""
    labels = report.labels
    judged = {row.label: row.judged for row in report.per_label}
    found = report.confusions or _of_matrix(report)
    return tuple(
        ConfusedPair(
            labels[one.true], labels[one.predicted], one.texts, judged.get(labels[one.true], 0), one.tasks
        )
        for one in found
        if max(one.true, one.predicted) < len(labels)
    )


def _of_matrix(report: Report) -> tuple[Confusion, ...]:
    tasks: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for wrong in report.wrong:
        tasks[wrong.true, wrong.predicted].append(wrong.task_id)
    size = len(report.labels)
    cells = [
        Confusion(true, other, texts, tuple(tasks[report.labels[true], report.labels[other]][:_MAX_TASKS]))
        for true, row in enumerate(report.confusion[:size])
        for other, texts in enumerate(row[:size])
        if texts and true != other
    ]
    return tuple(sorted(cells, key=lambda cell: -cell.texts))
