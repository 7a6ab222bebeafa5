"""report.json: a version's metrics beyond its accuracy. It holds no text of a task.

All metrics are out of sample, by calibrated probabilities. Shares are in [0, 1], and null if they are not defined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core import documents
from services.core.domain import Estimate
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation.gate import Change, Pairs
from services.trainer.evaluation.metrics import (
    BINS,
    MIN_LABEL_TEXTS,
    accuracy_in_words,
    confusion_matrix,
    expected_calibration_error,
    f1,
    reliability,
    share_in_words,
)

FORMAT: Final = 1
MAX_ERRORS: Final = 50
MAX_CHANGED: Final = 200
"""Fixed texts that are listed, and broken ones; the gate decision has the counts."""
_DIGITS: Final = 4


def build_report(
    dataset: Dataset,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    estimate: Estimate,
    temperature: float,
) -> dict[str, object]:
    """Build the JSON document; `probabilities` (evaluated, labels) are the answers for the examples in `rows` (evaluated,)."""
    targets = dataset.targets[rows]
    predicted = probabilities.argmax(axis=1)
    matrix = confusion_matrix(predicted, targets, len(dataset.labels))
    return {
        "format": FORMAT,
        "texts": len(dataset.examples),
        "estimate": _estimate(estimate),
        "temperature": temperature,
        "expected_calibration_error": round(expected_calibration_error(probabilities, targets), _DIGITS),
        "labels": list(dataset.labels),
        "confusion": matrix.tolist(),
        "per_label": _per_label(dataset, matrix),
        "reliability": _reliability(probabilities, targets),
        "wrong": _wrong(dataset, rows, probabilities),
        "dropped": dataset.dropped,
        "not_counted": [documents.to_plain(row) for row in dataset.not_counted],
        "third_opinion": list(dataset.third_opinion),
    }


def changed_texts(
    dataset: Dataset, compared_with: str | None, pairs: Pairs | None
) -> dict[str, object] | None:
    """List the tasks whose texts a version fixed and broke; None if it was compared with no version."""
    if pairs is None or compared_with is None:
        return None
    fixed, broken = (_tasks(dataset, texts) for texts in (pairs.fixed_texts, pairs.broken_texts))
    return {"compared_with": compared_with, "texts": pairs.total, "fixed": fixed, "broken": broken}


def _tasks(dataset: Dataset, changes: Sequence[Change]) -> list[dict[str, object]]:
    examples = {example.key: example for example in dataset.examples}
    rows: list[dict[str, object]] = [
        {"task_id": example.task_id, "true": example.label, "before": change.before, "now": change.now}
        for change in changes
        if (example := examples.get(change.key))
    ]
    return sorted(rows, key=lambda row: str(row["task_id"]).zfill(20))[:MAX_CHANGED]


def _estimate(estimate: Estimate) -> dict[str, object]:
    found: dict[str, object] = documents.to_plain(estimate)
    judged = estimate.judged_without_near_duplicates
    without = share_in_words(estimate.right_without_near_duplicates, judged)
    return {**found, "in_words": accuracy_in_words(estimate), "without_near_duplicates_in_words": without}


def _per_label(dataset: Dataset, matrix: NDArray[np.int64]) -> list[dict[str, object]]:
    examples = np.bincount(dataset.targets, minlength=len(dataset.labels))
    scores = f1(matrix)
    table = []
    for number, label in enumerate(dataset.labels):
        judged, answered, right = matrix[number].sum(), matrix[:, number].sum(), matrix[number, number]
        table.append(
            {
                "label": label,
                "examples": int(examples[number]),
                "judged": int(judged),
                "precision": _share(right, answered),
                "recall": _share(right, judged),
                "f1": round(float(scores[number]), _DIGITS) if judged else None,
                "note": "too few to judge" if judged < MIN_LABEL_TEXTS else "",
            }
        )
    return table


def _reliability(
    probabilities: NDArray[np.floating[Any]], targets: NDArray[np.int64]
) -> list[dict[str, object]]:
    rows = zip(*reliability(probabilities, targets), strict=True)
    return [
        {
            "from": round(number / BINS, _DIGITS),
            "to": round((number + 1) / BINS, _DIGITS),
            "texts": int(texts),
            "probability": _share(confidence, texts),
            "right": _share(right, texts),
        }
        for number, (texts, confidence, right) in enumerate(rows)
    ]


def _wrong(
    dataset: Dataset, rows: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]
) -> list[dict[str, object]]:
    """List errors by task, the most confident first: there the label itself may be wrong."""
    predicted, top = probabilities.argmax(axis=1), probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != dataset.targets[rows])
    most_confident = wrong[np.argsort(-top[wrong], kind="stable")][:MAX_ERRORS]
    return [
        {
            "task_id": dataset.examples[rows[index]].task_id,
            "true": dataset.examples[rows[index]].label,
            "predicted": dataset.labels[predicted[index]],
            "probability": round(float(top[index]), _DIGITS),
        }
        for index in most_confident
    ]


def _share(part: float, whole: float) -> float | None:
    return round(float(part / whole), _DIGITS) if whole else None
