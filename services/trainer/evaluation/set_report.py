"""The parts of report.json that differ where a text may have several labels, or none.

There is no confusion matrix: precision and recall of each label say what is missed and what is wrongly chosen.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.labels.examples import words_of
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation.reliability import reliability_of_labels
from services.trainer.evaluation.report_rows import error_rows, label_rows

_DIGITS: Final = 4


def set_sections(
    dataset: Dataset,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    thresholds: NDArray[np.floating[Any]],
) -> dict[str, Any]:
    """Build them of the answers (evaluated, labels) for the examples in `rows` (evaluated,).

    The first errors are those where one label is least probable as given.
    """
    true, found = dataset.chosen[rows], probabilities >= thresholds
    calibration = reliability_of_labels(probabilities, true)
    counts = (one.sum(axis=0) for one in (dataset.chosen, true, found, true & found))
    doubt = np.where(true, 1 - probabilities, probabilities).max(axis=1, initial=0.0)
    wrong = error_rows(
        dataset,
        rows,
        (found != true).any(axis=1),
        doubt,
        lambda row: words_of([dataset.labels[number] for number in np.flatnonzero(found[row])]),
    )
    return {
        "expected_calibration_error": round(calibration.error, _DIGITS),
        "confusion": [],
        "confusions": [],
        "per_label": label_rows(dataset.labels, *counts),
        "reliability": calibration.rows(),
        "wrong": wrong,
    }
