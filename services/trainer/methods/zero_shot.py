"""A head from the names of labels and unlabelled texts alone, for a project without a label.

Cosines to names, improved by expectation maximisation of a mixture with one direction for each label. Names are good centres: three
rounds move them towards their texts; ten cost e5 2 to 4 points. The probabilities are overconfident: 72 % right where they say .5 or more.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from services.engine.compute import softmax
from services.trainer.data.features import Floats
from services.trainer.methods import Head
from services.trainer.methods.names import name_features
from services.trainer.methods.scaling import Scale

ROUNDS: Final = 3
ASSIGNMENT_SLOPE: Final = 40.0
"""Of the softmax over cosines that assigns texts to labels: nearly the best label alone."""
SERVED_SLOPE: Final = 20.0
NAME_WEIGHT: Final = 4.0
"""Of a name among its texts."""
MAX_TEXTS: Final = 20_000
"""Unlabelled texts that are used: a second of work for 150 labels."""


def zero_shot(names: Floats, pool: Floats) -> Head:
    """Return a head for features as the encoder gives them, from those of the names (labels, d) and of unlabelled texts (m, d)."""
    scale = Scale.of(pool[:MAX_TEXTS], pool[:0])
    anchors = np.float32(NAME_WEIGHT) * name_features(names)
    centres, logs = mixture(anchors, scale.apply(pool[:MAX_TEXTS]))
    return scale.fold(Head(np.float32(SERVED_SLOPE) * centres, logs))


def mixture(anchors: Floats, X: Floats) -> tuple[Floats, Floats]:
    """Return each label's direction (labels, d), and the logarithm of its share (labels,), from scaled texts X (m, d).

    `anchors`: (labels, d) what is known of each direction; the longer it is, the less the texts change it. Anchors that nothing tells apart
    are 0 and keep no direction: the texts' sum is rounding error, which differs between processors.
    """
    labels = max(1, len(anchors))
    centres = _unit(anchors)
    shares: Floats = np.full(len(anchors), 1 / labels, np.float32)
    for _ in range(ROUNDS if len(X) and anchors.any() else 0):
        q = softmax(np.float32(ASSIGNMENT_SLOPE) * (X @ centres.T) + np.log(shares))
        centres = _unit(anchors + q.T @ X)
        counts = q.sum(axis=0) + len(X) / labels
        shares = np.asarray(counts / counts.sum(), np.float32)
    return centres, np.log(shares)


def _unit(rows: Floats) -> Floats:
    return np.asarray(
        rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12)), np.float32
    )
