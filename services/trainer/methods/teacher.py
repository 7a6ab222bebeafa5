"""A mixture of names, labelled and unlabelled texts, which teaches beside the head in self-training.

Each label is a direction, as in `zero_shot`: that of its name, of its labelled texts and of the unlabelled ones that are nearest to it. With
few texts a label it is more often right than a head, whose weights they leave open; with some more it is less often right. So its share
in a text's soft targets falls with the number of labelled texts of the labels that the text may have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.engine.compute import softmax
from services.trainer.data.features import Floats, Rows
from services.trainer.methods.fitting import ABSENT
from services.trainer.methods.zero_shot import NAME_WEIGHT, SERVED_SLOPE, mixture

MAX_SHARE: Final = 0.5
"""Of the mixture's answers in a text's soft targets: .25 costs 1 to 2 points with few labels, .7 half a point with 4 texts a label."""
SHARPENING: Final = 2.0
"""Of the mixture's answers, as of the head's in the last round. 1 costs 1 point, 5 with four labels and few texts."""
TEXT_WEIGHT: Final = 2.0
"""Of a labelled text in its label's direction, where an unlabelled one weighs at most 1. 1 costs up to 2 points with 77 labels, 4 up to 7 with four."""
_TEXTS_PER_LABEL, _TEXTS_IN_ALL = 2.0, 20.0
"""Labelled texts at which the share is half of its maximum: so many a label, and so many more in all. Where there are few labels, each
is broad, and a few texts leave the head's weights open."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What the mixture says of the pool, and how much that counts."""

    logits: Floats
    """(m, labels), sharpened."""
    shares: Floats
    """(m,) of it in each text's soft targets, 0 to MAX_SHARE."""
    texts: float
    """Labelled texts that it counts as: those that names stand for, of labels without an example."""

    def blend(self, logits: Floats) -> Floats:
        """Return the logits (m, labels) of the geometric mean of both, weighted by the shares."""
        shares = self.shares[:, None]
        return np.asarray((1 - shares) * logits + shares * self.logits, np.float32)


def teacher_of(
    X: Floats, targets: Rows, N: Floats, weights: Floats, pool: Floats, typical: float = 1.0
) -> Teacher:
    """Return the teacher for a pool (m, d).

    `X`: (n, d) labelled texts with their labels; `N`: (labels, d) from `name_features`; `weights`: (labels,) from `name_weights`;
    `typical`: from `typicality`, how much a labelled text tells of the pool.
    """
    counts = np.bincount(targets, minlength=len(N))
    logits = _logits(X, targets, weights[:, None] * N, pool)
    unseen, p = counts == 0, softmax(logits)
    excess = float(p[:, unseen].sum(axis=1).mean()) / unseen_share(counts)
    if excess > 1:
        logits[:, unseen] -= np.float32(np.log(excess))
        p = softmax(logits)
    half = _TEXTS_PER_LABEL + _TEXTS_IN_ALL / len(N)
    shares = np.asarray(MAX_SHARE / (1 + (typical * (p @ counts) / half) ** 2), np.float32)
    return Teacher(np.float32(SHARPENING) * logits, shares, float(weights[unseen].sum()))


def _logits(X: Floats, targets: Rows, names: Floats, pool: Floats) -> Floats:
    """Return the mixture's logits (m, labels); a label with neither example nor name has a probability of nearly 0."""
    anchors = np.float32(NAME_WEIGHT) * names
    np.add.at(anchors, targets, np.float32(TEXT_WEIGHT) * X)
    known = np.flatnonzero(anchors.any(axis=1))
    centres, logs = mixture(anchors[known], pool)
    found = np.float32(SERVED_SLOPE) * (pool @ centres.T) + logs
    logits = np.full((len(pool), len(names)), found.min(initial=0.0) - ABSENT, np.float32)
    logits[:, known] = found
    return logits


def unseen_share(counts: Rows) -> float:
    """Return the share of all texts that have a label without an example, from each label's labelled texts (labels,).

    Good's and Turing's estimate, the share of texts that are their label's only one, one of both added: labels of a config that no text
    has are seen to be missing.
    """
    return float((np.sum(counts == 1) + 1) / (counts.sum() + 1))
