"""Compares the accuracy that was expected of a version with annotations that came after it. Pure.

A version's run answers the pool, so all labels of these tasks came later, and none of its answers has learnt from them. Texts labelled
at random tell what it should have expected: how much more often it was right on them than its probabilities say, added to the mean
probability of the whole pool. Texts chosen by uncertainty do not: later versions chose those on which they contradict this one, so
it is right on them far less often than on others to which it gives the same probability. There, all texts without a label are
judged by the newest version, which knows the labels of the difficult ones. Suggestions that annotators merely accept make a version
look better than it is.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain import EstimateErrors, EstimateScore, Manifest, Selection
from services.core.labels.index import LabelIndex
from services.core.pool import Floats, PoolPredictions

MIN_ANNOTATIONS: Final = 50
"""Below it chance alone makes more than four points."""
SETTLED_ANNOTATIONS: Final = 300
"""From here on a score is kept as it is: chance makes less than two points."""
AVERAGED: Final = 10
"""How many of the newest scored versions are averaged."""
_SIGNIFICANT: Final = 3.0
"""Standard deviations by which the mean rank of the labelled texts must lie below the middle to be called chosen."""
_MEAN_ABSOLUTE: Final = math.sqrt(2 / math.pi)
"""Mean absolute value of a normal variable, in standard deviations."""
_JUDGED_CHANCE: Final = 0.03
"""Standard deviation, and bias, of what the newest version says of an earlier one's answers."""
Numbers = NDArray[np.int64]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class AnsweredPool:
    """A version with its answers for the tasks that were unlabelled when it was made."""

    manifest: Manifest
    predictions: PoolPredictions


def score_estimate(
    version: AnsweredPool, newest: AnsweredPool | None, index: LabelIndex, labels: Sequence[str]
) -> EstimateScore | None:
    """Return the score of a version; None without an expected accuracy, or with fewer than MIN_ANNOTATIONS.

    `newest`: a later version; without one that has learnt from MIN_ANNOTATIONS more texts, only texts labelled at random are of use.
    `labels`: what the index's numbers mean. Texts with a label that the version did not know are left out: it answered another
    question.
    """
    manifest, predictions = version.manifest, version.predictions
    expected = manifest.expected
    if expected is None or expected.accuracy is None or manifest.multi_label or index.label_sets:
        return None
    places, given = labelled_since(predictions, index)
    truth = _numbers(labels, manifest.labels)[given]
    places, truth = places[truth >= 0], truth[truth >= 0]
    if len(places) < MIN_ANNOTATIONS:
        return None
    is_right, selection = predictions.labels[places] == truth, selection_of(places, len(predictions))
    if selection is Selection.RANDOM:
        observed, chance = observed_accuracy(predictions.p1, predictions.p1[places], is_right)
    elif newest and newest.manifest.lineage.texts >= manifest.lineage.texts + MIN_ANNOTATIONS:
        numbers = _numbers(manifest.labels, newest.manifest.labels)
        observed = judged_accuracy(predictions, newest.predictions, numbers, places, is_right)
        chance = _JUDGED_CHANCE
    else:
        return None
    return EstimateScore(
        version=manifest.version,
        created_at=manifest.created_at,
        expected=expected.accuracy,
        margin=expected.margin,
        annotations=len(places),
        right=int(is_right.sum()),
        observed=observed,
        chance=chance,
        selection=selection,
    )


def judged_accuracy(
    answers: PoolPredictions, judge: PoolPredictions, numbers: Numbers, places: Numbers, is_right: Flags
) -> float:
    """Return the accuracy on the pool, of whose answers those in `places` (n,) have a label: right or not, by `is_right` (n,).

    The others are right with the judge's probability of the same label. Of another label than its first one only the first one's
    probability is known: it has half of what is left. `numbers`: (labels,) the judge's number of each label; -1 for none.
    """
    found = _places_of(judge, answers.tasks, answers.texts)
    is_known = found >= 0
    p1 = judge.p1[found[is_known]].astype(np.float64)
    is_same = judge.labels[found[is_known]] == numbers[answers.labels[is_known]]
    chances = np.full(len(answers), np.nan)
    chances[is_known] = np.where(is_same, p1, (1 - p1) / 2)
    chances[places] = is_right
    return float(np.nanmean(chances))


def observed_accuracy(pool: Floats, labelled: Floats, is_right: Flags) -> tuple[float, float]:
    """Return the accuracy on a pool that later labels indicate, and its standard deviation by chance.

    `pool`: (m,) top probabilities of all its texts; `labelled`: (n,) those of texts with a label; `is_right`: (n,).
    """
    excess: NDArray[np.float64] = is_right.astype(np.float64) - labelled.astype(np.float64)
    observed = float(pool.mean(dtype=np.float64) + excess.mean())
    return min(1.0, max(0.0, observed)), float(excess.std(ddof=1) / np.sqrt(len(excess)))


def labelled_since(predictions: PoolPredictions, index: LabelIndex) -> tuple[Numbers, Numbers]:
    """Return which predictions (n,) people have answered since, each text once, and the numbers (n,) of their labels.

    A task whose text was edited is left out, as is a text that is labelled in another task too: the version may have learnt it.
    """
    rows = index.rows[index.voting]
    places = _places_of(predictions, rows["task"], rows["text_key"])
    is_known = places >= 0
    is_known &= ~np.isin(rows["text_key"], rows["text_key"][~is_known])
    places, rows = places[is_known], rows[is_known]
    first = np.unique(rows["text_key"], return_index=True)[1]
    return places[first].astype(np.int64), rows["label"][first].astype(np.int64)


def _numbers(labels: Sequence[str], among: Sequence[str]) -> Numbers:
    """Return the number of each label (n,) among others; -1 for one that is not among them."""
    known = {label: number for number, label in enumerate(among)}
    return np.array([known.get(label, -1) for label in labels], np.int64)


def _places_of(predictions: PoolPredictions, tasks: Numbers, texts: NDArray[np.uint64]) -> Numbers:
    """Return where the answer to each task (n,) is, given for the text (n,) that it has; -1 if there is none."""
    if not len(predictions):
        return np.full(len(tasks), -1, np.int64)
    order = np.argsort(predictions.tasks, kind="stable")
    found = order[np.minimum(np.searchsorted(predictions.tasks, tasks, sorter=order), len(order) - 1)]
    is_same = (predictions.tasks[found] == tasks) & (predictions.texts[found] == texts)
    return np.where(is_same, found, -1).astype(np.int64)


def selection_of(ranks: Numbers, texts: int) -> Selection:
    """Return how labelled texts were chosen, from their ranks (n,) among `texts`, the most uncertain first."""
    if not len(ranks):
        return Selection.UNKNOWN
    deviations = ((ranks.mean() + 0.5) / texts - 0.5) * math.sqrt(12 * len(ranks))
    if deviations < -_SIGNIFICANT:
        return Selection.UNCERTAIN
    return Selection.RANDOM if deviations <= _SIGNIFICANT else Selection.UNKNOWN


def average(scores: Iterable[EstimateScore]) -> EstimateErrors | None:
    """Summarise the newest scores; None if there is none."""
    newest = sorted(scores, key=lambda one: (one.created_at, one.version))[-AVERAGED:]
    if not newest:
        return None
    errors = np.array([one.error for one in newest])
    spread = math.sqrt(sum(one.chance**2 for one in newest) / len(newest))
    return EstimateErrors(
        versions=len(newest),
        error=float(np.abs(errors).mean()),
        bias=float(errors.mean()),
        chance=_MEAN_ABSOLUTE * spread,
        annotations=min(one.annotations for one in newest),
        selection=Counter(one.selection for one in newest).most_common(1)[0][0],
    )
