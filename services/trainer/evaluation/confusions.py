"""The labels that a model confuses, the most frequent pairs first, with example tasks. Pure."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain import Confusion
from services.trainer.data.dataset import Dataset

MAX_CONFUSIONS: Final = 100
"""Pairs of labels that a report lists."""
MAX_TASKS: Final = 2
"""Example tasks of each pair."""


def list_confusions(
    dataset: Dataset, rows: NDArray[np.int64], probabilities: NDArray[np.floating[Any]]
) -> tuple[Confusion, ...]:
    """Return the pairs of labels with the most errors; of equal numbers, those of the label with the fewest texts first.

    `probabilities` (evaluated, labels) answer the examples in `rows` (evaluated,).
    """
    targets, predicted = dataset.targets[rows], probabilities.argmax(axis=1)
    wrong = np.flatnonzero(predicted != targets)
    confident_first = wrong[np.argsort(-probabilities.max(axis=1)[wrong], kind="stable")]
    size = max(1, len(dataset.labels))
    codes = targets[confident_first] * size + predicted[confident_first]
    pairs, texts = np.unique(codes, return_counts=True)
    judged = np.bincount(targets, minlength=size)
    found = []
    for place in np.lexsort([judged[pairs // size], -texts])[:MAX_CONFUSIONS].tolist():
        examples = confident_first[codes == pairs[place]][:MAX_TASKS]
        tasks = tuple(dataset.examples[row].task_id for row in rows[examples].tolist())
        true, other = divmod(int(pairs[place]), size)
        found.append(Confusion(true, other, int(texts[place]), tasks))
    return tuple(found)
