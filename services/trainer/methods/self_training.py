"""Self-training: a head's sharpened answers to unlabelled texts, blended with a teacher's, become soft targets of the next one.

What unlabelled texts say is where the texts of a label lie around the few that were labelled. Two rounds, each counting less than
three times the labelled texts: without that bound a wrong majority teaches itself (SMS spam at one text a label: 71 % instead of 84 %).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from services.engine.compute import softmax
from services.trainer.data.features import Floats
from services.trainer.data.pool import MAX_TEXTS, trained_texts
from services.trainer.methods import Head
from services.trainer.methods.fitting import WeightedRows, fit
from services.trainer.methods.teacher import Teacher

MIN_TEXTS_PER_LABEL: Final = 5
"""Unlabelled texts a label below which self-training costs up to 3 points with one text a label of 77; at random it still gains 1 to 4."""
SHARPENINGS: Final = (4.0, 2.0)
"""Of each round: logits are multiplied by it, since a head of few texts is too cautious; less so the second one."""
MAX_WEIGHT: Final = 0.5
"""Of an unlabelled text whose label is certain, where a labelled one weighs 1."""
MAX_SHARE: Final = 3.0
"""Weight of all unlabelled texts together, as a multiple of the number of labelled ones."""
TOLERANCE: Final = 1e-4
"""Of the fits: a tenth gives the same accuracy, ten times as much costs half a point."""
MAX_STEPS: Final = 60


def split_pool(pool: Floats) -> tuple[Floats, Floats]:
    """Return the unlabelled texts to train on, and at most as many others as may be used, by which the trained model is judged.

    `pool`: (m, d) in an order that has nothing to do with what the texts say.
    """
    used = trained_texts(len(pool))
    return pool[:used], pool[used : used + MAX_TEXTS]


def is_worthwhile(pool_texts: int, labels: int) -> bool:
    """Return whether there are enough unlabelled texts for this many labels."""
    return pool_texts >= max(1, MIN_TEXTS_PER_LABEL * labels)


def soft_targets(
    logits: Floats, sharpening: float, labelled: float, teacher: Teacher
) -> tuple[Floats, Floats]:
    """Return probabilities (m, labels) from a head's logits and the teacher's, and the weight (m,) of each text.

    The sum of the weights is at most 3 · labelled.
    """
    q = softmax(teacher.blend(logits * np.float32(sharpening)))
    weights = MAX_WEIGHT * q.max(axis=1, initial=0.0) ** 2
    bound = MAX_SHARE * labelled / max(float(weights.sum(dtype=np.float64)), 1e-12)
    return q, np.asarray(weights * np.float32(min(1.0, bound)), np.float32)


def self_train(
    head: Head,
    rows: WeightedRows,
    pool: Floats,
    labelled: int,
    teacher: Teacher,
    check: Callable[[], None] = lambda: None,
    tolerance: float = TOLERANCE,
) -> Head:
    """Return the head after all rounds on the labelled rows, `labelled` of them texts, and the pool (m, d)."""
    for sharpening in SHARPENINGS:
        logits = pool @ head.weight.T + head.bias
        targets = soft_targets(logits, sharpening, labelled + teacher.texts, teacher)
        head = fit(rows.with_soft(pool, *targets), head, check, tolerance, MAX_STEPS)
    return head
