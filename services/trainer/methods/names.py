"""The names of labels as examples: each name's features are one text of its label, as far as names agree with the labels given.

Someone who writes `card arrival` as a label says more than one example does; someone who writes `c17` says nothing, and names can
be wrong or in a language that the encoder does not read. Their reliability is measured on the labelled texts.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.engine.compute import softmax
from services.trainer.data.features import Floats, Rows

FULL_TRUST: Final = 10.0
"""The slope of the softmax over cosines at which a name counts as a text: that of good names. Without labels it is assumed."""
_DEVIATION: Final = 10.0
"""Of the slope's prior, around FULL_TRUST: some thirty labels that contradict outweigh it."""
MIN_TRUST: Final = 0.05
"""Weight below which names are left out."""
_GOOD_NAMES, _BAD_NAMES = 9.0, 1.0
"""What is assumed of a label config before any label: nine of ten names are right."""
_ROUNDS: Final = 10
_HALVINGS: Final = 10
"""Of the interval in which the slope is sought: to 0.1 % of a text."""
_SMALLEST: Final = 1e-4
"""Length of a centred name, relative to that of an uncentred one, below which nothing tells the names apart."""
_TINY: Final = 1e-12


def name_features(X: Floats) -> Floats:
    """Return N (labels, d): the features of names without what all names share, at length 1; 0 where nothing is left."""
    if not len(X):
        return X
    centred = X - X.mean(axis=0)
    lengths = np.linalg.norm(centred, axis=1, keepdims=True)
    smallest = max(_SMALLEST * float(np.linalg.norm(X, axis=1).mean()), _TINY)
    return np.where(lengths > smallest, centred / np.maximum(lengths, smallest), 0).astype(np.float32)


def trust(X: Floats, targets: Rows, N: Floats, typical: float = 1.0) -> float:
    """Return the weight of a name, 0 to 1, from scaled texts (n, d) with their labels: how steeply cosines to names tell labels.

    `typical`: from `typicality`; a text counts so much. The slope s is the one of most likelihood for P(k | x) = softmax(s ⟨x, N⟩), with the normal prior above; it is concave in s.
    """
    if not N.any():
        return 0.0
    cosines = X @ N.T
    given = float(cosines[np.arange(len(X)), targets].sum(dtype=np.float64))

    def rises(slope: float) -> bool:
        expected = float((softmax(cosines, 1 / slope) * cosines).sum(dtype=np.float64))
        return typical * (given - expected) - (slope - FULL_TRUST) / _DEVIATION**2 > 0

    low, high = 0.0, FULL_TRUST  # a steeper slope is trusted no more
    if not len(X) or rises(high):
        return 1.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    found = high / FULL_TRUST
    return found if found >= MIN_TRUST else 0.0


def name_weights(X: Floats, targets: Rows, N: Floats, typical: float = 1.0) -> Floats:
    """Return the weight of each name (labels,): the trust in all, times the probability that it is its label's name; 0 for none.

    A name that is wrong says as much about its label's texts as any other label's would: one of `labels` names, each as likely. What share
    of the names is right follows from the same texts, of which each counts as much as it is `typical`.
    """
    labels = len(N)
    weight = trust(X, targets, N, typical)
    if not weight:
        return np.zeros(labels, np.float32)
    chosen = softmax(X @ N.T, 1 / FULL_TRUST)[np.arange(len(X)), targets]
    evidence = np.bincount(targets, typical * np.log(np.maximum(chosen, 1e-12) * labels), labels)
    known, share = np.bincount(targets, minlength=labels) > 0, _GOOD_NAMES / (_GOOD_NAMES + _BAD_NAMES)
    right: NDArray[np.float64] = np.full(labels, share)
    for _ in range(_ROUNDS):
        right = 1 / (1 + (1 - share) / share * np.exp(-np.clip(evidence, -30, 30)))
        share = (right[known].sum() + _GOOD_NAMES) / (known.sum() + _GOOD_NAMES + _BAD_NAMES)
    found = weight * right
    return np.where(found >= MIN_TRUST, found, 0).astype(np.float32)
