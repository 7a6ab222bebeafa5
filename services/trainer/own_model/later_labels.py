"""Evaluate a class of the operator's on tasks that were annotated since its `fit` began: it has seen none of their labels.

Only where the label config asks for one label of a text, which Fitloop can compare. Elsewhere, and with fewer tasks, nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np

from services.core.domain import Estimate, LabelSpace
from services.core.labels import parse_labels
from services.core.labels.annotations import parse_timestamp
from services.core.labels.index import LabelIndex
from services.core.labels.rows import NO_LABEL, NO_TEXT, label_row
from services.trainer.evaluation.gate import Pairs
from services.trainer.evaluation.metrics import MIN_ESTIMATE_TEXTS, estimate
from services.trainer.own_model.trial import TaskSource, plain_task

SOURCE = "later-labels"
"""`Estimate.source` of such an evaluation."""


@dataclass(frozen=True, slots=True)
class LaterLabels:
    """Tasks that were annotated since, and their labels."""

    space: LabelSpace
    tasks: tuple[dict[str, Any], ...]
    labels: tuple[int, ...]
    """Indexes into the space's labels."""

    def chosen(self, predictions: Sequence[Sequence[Mapping[str, Any]]]) -> list[int | None]:
        """Return the label of the first prediction of each task; None without one, or with several labels."""
        return [self._chosen(found[0]["result"]) if found else None for found in predictions]

    def _chosen(self, result: object) -> int | None:
        found = parse_labels(self.space, result) if isinstance(result, list) else ()
        known = [self.space.labels.index(label) for label in found if label in self.space.labels]
        return known[0] if len(known) == 1 else None

    def estimate(self, chosen: Sequence[int | None]) -> Estimate:
        """Return how accurate these answers are; a task without one counts as wrong."""
        width = len(self.space.labels)
        answers = np.array([width if one is None else one for one in chosen])
        return estimate(np.eye(width + 1)[answers], np.array(self.labels), SOURCE, None)

    def pairs(self, before: Sequence[int | None], now: Sequence[int | None]) -> Pairs:
        """Compare the answers of two versions."""
        counts = {label: [0, 0, 0] for label in self.space.labels}
        for true, old, new in zip(self.labels, before, now, strict=True):
            row = counts[self.space.labels[true]]
            row[0] += old != true == new
            row[1] += old == true != new
            row[2] += 1
        per_label = {label: (row[0], row[1], row[2]) for label, row in counts.items()}
        fixed, broken, total = (sum(row[place] for row in per_label.values()) for place in range(3))
        return Pairs(fixed, broken, total, per_label)


def read_later_labels(
    source: TaskSource, project_id: int, space: LabelSpace | None, index: LabelIndex, since: float
) -> LaterLabels | None:
    """Return the tasks that were annotated since then and not before; None if they are too few, or have several labels."""
    if space is None or space.multiple:
        return None
    known, tasks, labels = set(index.tasks.tolist()), [], []
    stamp = f"{datetime.fromtimestamp(since, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    for task in source.annotated_tasks(project_id, stamp):
        row = label_row(space, task)
        if row is None or row.task in known or row.text_key == NO_TEXT or not isinstance(row.label, int):
            continue
        times = [parse_timestamp(one.get("created_at")) for one in task.get("annotations") or ()]
        if row.label != NO_LABEL and min(times) >= since:
            tasks.append(plain_task(project_id, task))
            labels.append(row.label)
    return LaterLabels(space, tuple(tasks), tuple(labels)) if len(tasks) >= MIN_ESTIMATE_TEXTS else None
