"""Labels that may be wrong: models that were not trained on a text clearly prefer another label for it. Pure.

A label is suspect if another one is the most probable, and at least as probable as it is on average where people gave it (confident
learning, Northcutt et al. 2021), so that labels which are hard to tell apart are not all listed. Where a text may have several labels,
each label is such a question of its own: given or not. The lowest probability of what was given comes first: it finds random errors
best. The margin to the other label finds errors between similar labels somewhat better; pages and commands show it as well.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain import SuspectLabel, SuspectLabels
from services.trainer.data.dataset import Dataset

MIN_TEXTS: Final = 50
"""Evaluated texts; of fewer, nothing is listed."""
MIN_EXAMPLES: Final = 5
"""Evaluated texts that either answer needs: a label that the models hardly know is doubted without reason."""
MAX_LISTED: Final = 200
"""A link with this many annotation ids of seven digits is an address of 1,300 characters in Label Studio."""
_DIGITS: Final = 4


def list_suspects(
    dataset: Dataset,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    learnable: NDArray[np.bool_],
    confirmed: Collection[tuple[str, str]] = (),
) -> SuspectLabels:
    """List the suspect labels of the examples in `rows` (evaluated,), by their calibrated probabilities (evaluated, labels).

    `learnable`: (evaluated,) whether the models knew the given label; `confirmed`: text keys and labels that people have confirmed.
    Ground truth is not listed either.
    """
    if not _can_judge(dataset, rows):
        return SuspectLabels(too_few=True)
    find = _find_sets if dataset.multiple else _find_labels
    found, given = find(dataset, rows, probabilities, learnable)
    found &= _find_open(dataset, rows, confirmed)
    texts, columns = np.nonzero(found)
    order = np.lexsort((columns, rows[texts], given[texts, columns]))
    listed = list(zip(texts[order].tolist(), columns[order].tolist(), strict=True))[:MAX_LISTED]
    suspects = tuple(
        _suspect_of_set(dataset, int(rows[text]), label, float(given[text, label]))
        if dataset.multiple
        else _suspect(dataset, int(rows[text]), probabilities[text])
        for text, label in listed
    )
    return SuspectLabels(suspects, len(order))


def _find_labels(
    dataset: Dataset,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    learnable: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    """Return (evaluated, labels) which given labels are suspect, and the probability of each label."""
    targets = dataset.targets[rows]
    found = np.zeros(probabilities.shape, np.bool_)
    found[np.arange(len(rows)), targets] = find_suspects(probabilities, targets) & learnable
    return found, probabilities


def _find_sets(
    dataset: Dataset,
    rows: NDArray[np.int64],
    probabilities: NDArray[np.floating[Any]],
    _: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], NDArray[np.floating[Any]]]:
    """Return (evaluated, labels) about which labels what was given is suspect, and how probable it is."""
    chosen = dataset.chosen[rows]
    return find_suspect_sets(probabilities, chosen), np.where(chosen, probabilities, 1 - probabilities)


def find_suspects(probabilities: NDArray[np.floating[Any]], targets: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return (texts,) whether each given label is suspect; `probabilities` (texts, labels), `targets` (texts,)."""
    given = np.take_along_axis(probabilities, targets[:, None], 1)[:, 0]
    labels = probabilities.shape[1]
    examples = np.bincount(targets, minlength=labels)
    usual = np.bincount(targets, given, labels) / np.maximum(examples, 1)
    best = probabilities.argmax(axis=1)
    is_clear = probabilities.max(axis=1) >= usual[best]
    return np.asarray(
        (best != targets) & is_clear & (np.minimum(examples[best], examples[targets]) >= MIN_EXAMPLES)
    )


def find_suspect_sets(
    probabilities: NDArray[np.floating[Any]], chosen: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return (texts, labels) which labels were given but are improbable, or were not but are probable: each as one of two answers."""
    found = np.zeros(chosen.shape, np.bool_)
    for label, is_given in enumerate(chosen.T):
        probability = probabilities[:, label]
        found[:, label] = find_suspects(
            np.stack([1 - probability, probability], 1), is_given.astype(np.int64)
        )
    return found


def _can_judge(dataset: Dataset, rows: NDArray[np.int64]) -> bool:
    """Whether there are enough texts, and enough with two answers to one question."""
    if len(rows) < MIN_TEXTS:
        return False
    if dataset.multiple:
        given = dataset.chosen[rows].sum(axis=0)
        return bool((np.minimum(given, len(rows) - given) >= MIN_EXAMPLES).any())
    return int((np.bincount(dataset.targets[rows]) >= MIN_EXAMPLES).sum()) > 1


def _find_open(
    dataset: Dataset, rows: NDArray[np.int64], confirmed: Collection[tuple[str, str]]
) -> NDArray[np.bool_]:
    """Return (evaluated, labels) about which labels of which texts people have not decided yet."""
    examples = [dataset.examples[row] for row in rows.tolist()]
    found = np.ones((len(rows), len(dataset.labels)), np.bool_)
    found[[example.ground_truth for example in examples]] = False
    places = {example.key: place for place, example in enumerate(examples)}
    columns = {label: column for column, label in enumerate(dataset.labels)}
    for key, label in confirmed:
        if key in places and label in columns:
            found[places[key], columns[label]] = False
    return found


def _suspect(dataset: Dataset, row: int, probabilities: NDArray[np.floating[Any]]) -> SuspectLabel:
    given, other = int(dataset.targets[row]), int(probabilities.argmax())
    example = dataset.examples[row]
    return SuspectLabel(
        example.task_id,
        example.annotation,
        given,
        other,
        round(float(probabilities[given]), _DIGITS),
        round(float(probabilities[other]), _DIGITS),
        example.changed_at,
    )


def _suspect_of_set(dataset: Dataset, row: int, label: int, probability: float) -> SuspectLabel:
    example, is_given = dataset.examples[row], bool(dataset.chosen[row, label])
    return SuspectLabel(
        example.task_id,
        example.annotation,
        label if is_given else None,
        None if is_given else label,
        round(probability, _DIGITS),
        round(1 - probability, _DIGITS),
        example.changed_at,
    )
