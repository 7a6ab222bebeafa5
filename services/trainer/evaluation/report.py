"""report.json: a version's metrics beyond its accuracy. It holds no text of a task.

All metrics are out of sample, by calibrated probabilities. Shares are in [0, 1], and null if they are not defined.

Its size is bounded whatever the number of texts: lists are cut at the MAX_ constants here and beside the functions that make
them, the matrix of more than MAX_MATRIX labels is left out, and rows that name labels are cut at MAX_NAMES characters. With
500 labels and 100,000 texts it has at most 0.7 MB and twice the labels' own characters.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core import documents
from services.core.domain import Estimate
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation.confusions import list_confusions
from services.trainer.evaluation.gate import Change, Pairs
from services.trainer.evaluation.metrics import accuracy_in_words, confusion_matrix, share_in_words
from services.trainer.evaluation.reliability import reliability
from services.trainer.evaluation.report_rows import error_rows, label_rows
from services.trainer.evaluation.set_report import set_sections

FORMAT: Final = 1
MAX_CHANGED: Final = 200
"""Fixed texts that are listed, and broken ones; the gate decision has the counts."""
MAX_THIRD_OPINIONS: Final = 1000
"""Tasks without a majority that are listed."""
MAX_MATRIX: Final = 500
"""Labels up to which the whole confusion matrix is written; the most frequent confusions are listed in any case."""
MAX_NAMES: Final = 100_000
"""Characters of labels in one list of tasks: reached only by labels of hundreds of characters."""
_DIGITS: Final = 4


def build_report(
    dataset: Dataset,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    estimate: Estimate,
    temperature: float,
    thresholds: NDArray[np.floating[Any]] | None = None,
) -> dict[str, object]:
    """Build the JSON document; `probabilities` (evaluated, labels) are the answers for the examples in `rows` (evaluated,).

    `thresholds` (labels,) where a text may have several labels.
    """
    if thresholds is None:
        sections = _sections(dataset, rows, probabilities)
    else:
        sections = set_sections(dataset, rows, probabilities, thresholds)
    return {
        "format": FORMAT,
        "texts": len(dataset.examples),
        "judged": len(rows),
        "estimate": _estimate(estimate),
        "temperature": temperature,
        "labels": list(dataset.labels),
        **sections,
        "wrong": list(_within_names(sections["wrong"])),
        "dropped": dataset.dropped,
        "not_counted": [documents.to_plain(row) for row in dataset.not_counted],
        "not_counted_tasks": {reason: list(tasks) for reason, tasks in dataset.left_out.items()},
        "third_opinion": list(dataset.third_opinion[:MAX_THIRD_OPINIONS]),
        "third_opinions": len(dataset.third_opinion),
        "disagreement": documents.to_plain(dataset.disagreement),
    }


def _sections(
    dataset: Dataset, rows: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]
) -> dict[str, Any]:
    targets, predicted = dataset.targets[rows], probabilities.argmax(axis=1)
    matrix = confusion_matrix(predicted, targets, len(dataset.labels))
    examples = np.bincount(dataset.targets, minlength=len(dataset.labels))
    counts = matrix.sum(axis=1), matrix.sum(axis=0), matrix.diagonal()
    top, calibration = probabilities.max(axis=1, initial=0.0), reliability(probabilities, targets)
    return {
        "expected_calibration_error": round(calibration.error, _DIGITS),
        "confusion": matrix.tolist() if len(matrix) <= MAX_MATRIX else [],
        "confusions": [documents.to_plain(row) for row in list_confusions(dataset, rows, probabilities)],
        "per_label": label_rows(dataset.labels, examples, *counts),
        "reliability": calibration.rows(),
        "wrong": error_rows(
            dataset, rows, predicted != targets, top, lambda row: dataset.labels[predicted[row]]
        ),
    }


def report_bytes(report: Mapping[str, object]) -> bytes:
    """Serialise the document as compact UTF-8; half of a surrogate pair, as a label config may have, is kept."""
    text = json.dumps(report, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass")


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
    by_task = sorted(rows, key=lambda row: str(row["task_id"]).zfill(20))
    return list(_within_names(by_task[:MAX_CHANGED]))


def _within_names(rows: Sequence[dict[str, object]]) -> Iterator[dict[str, object]]:
    """Yield rows until their labels have MAX_NAMES characters."""
    characters = 0
    for row in rows:
        characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if characters > MAX_NAMES:
            return
        yield row


def _estimate(estimate: Estimate) -> dict[str, object]:
    found: dict[str, object] = documents.to_plain(estimate)
    judged = estimate.judged_without_near_duplicates
    without = share_in_words(estimate.right_without_near_duplicates, judged)
    return {**found, "in_words": accuracy_in_words(estimate), "without_near_duplicates_in_words": without}
