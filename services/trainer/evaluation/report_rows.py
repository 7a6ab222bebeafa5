"""Rows of report.json about labels and errors, whether a text has one label or several."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.trainer.data.dataset import Dataset
from services.trainer.evaluation.metrics import MIN_LABEL_TEXTS
from services.trainer.evaluation.reliability import share

MAX_ERRORS: Final = 50
_DIGITS: Final = 4

Counts = NDArray[np.int64]


def label_rows(
    labels: tuple[str, ...], examples: Counts, judged: Counts, answered: Counts, right: Counts
) -> list[dict[str, object]]:
    """Return precision, recall and F1 of each label from counts (labels,): of examples, evaluated texts, answers, correct answers."""
    return [
        {
            "label": label,
            "examples": int(examples[number]),
            "judged": int(judged[number]),
            "precision": share(right[number], answered[number]),
            "recall": share(right[number], judged[number]),
            "f1": share(2 * right[number], judged[number] + answered[number]) if judged[number] else None,
            "note": "too few to judge" if judged[number] < MIN_LABEL_TEXTS else "",
        }
        for number, label in enumerate(labels)
    ]


def error_rows(
    dataset: Dataset,
    rows: Counts,
    is_wrong: NDArray[np.bool_],
    doubt: NDArray[np.floating[Any]],
    predicted: Callable[[int], str],
) -> list[dict[str, object]]:
    """List the wrong answers for `rows` (evaluated,), those first where the label itself may be wrong: of the highest `doubt`."""
    wrong = np.flatnonzero(is_wrong)
    first = wrong[np.argsort(-doubt[wrong], kind="stable")][:MAX_ERRORS]
    return [
        {
            "task_id": dataset.examples[rows[index]].task_id,
            "true": dataset.examples[rows[index]].label,
            "predicted": predicted(index),
            "probability": round(float(doubt[index]), _DIGITS),
        }
        for index in first.tolist()
    ]
