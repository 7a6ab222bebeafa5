"""The labels' names as a second teacher of self-training, for labels without an example: what names and pool alone answer.

Where most labels have no example, the head of `zero_shot` is more often right than one that was trained, whose own answers teach it
little about them. How far it is believed follows from the labelled texts, a lower bound rather than the mean: with two labels and five
texts nothing is certain, with 77 a few right answers cannot be chance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from services.core.intervals import wilson_interval
from services.engine.compute import softmax
from services.trainer.data.features import Floats, Rows
from services.trainer.methods.names import MIN_TRUST
from services.trainer.methods.zero_shot import SERVED_SLOPE, mixture

MAX_SHARE: Final = 0.25
"""Of the names' answers in a text's soft targets: .2 gains a point less, .3 nothing more."""
SHARPENING: Final = 2.0
"""Of the names' answers, as of the head's. 1 gains 1 to 2 points less."""
FULL_LIFT: Final = 0.3
"""Lift over chance, 1 being always right, that is full trust. Chosen texts are those that names tell least of: with 77 good names the lower
bound of their lift is .15 to .25 at 20 to 100 of them."""
DEVIATIONS: Final = 1.28
"""Of the lower bound: one in ten is above the truth."""


@dataclass(frozen=True, slots=True)
class Teacher:
    """What the names say of the pool, and how much that counts."""

    logits: Floats
    """(m, labels), sharpened."""
    shares: Floats
    """(m,) of it in each text's soft targets, 0 to MAX_SHARE."""
    texts: float
    """Labelled texts that it counts as: the labels that it teaches, times the trust in it."""

    def blend(self, logits: Floats) -> Floats:
        """Return the logits (m, labels) of the geometric mean of both, weighted by the shares."""
        shares = self.shares[:, None]
        return np.asarray((1 - shares) * logits + shares * self.logits, np.float32)


def trust_in(right: int, labelled: int, labels: int) -> float:
    """Return how far answers are believed, 0 to 1, of which so many of the labelled texts' are right.

    Wilson's lower bound of the share that is right, as a lift over chance.
    """
    if not labelled or labels < 2:
        return 0.0
    lowest, _ = wilson_interval(right, labelled, DEVIATIONS)
    lift = (lowest - 1 / labels) / (1 - 1 / labels)
    return min(1.0, max(0.0, lift / FULL_LIFT))


def teacher_of(X: Floats, targets: Rows, N: Floats, weights: Floats, pool: Floats) -> Teacher | None:
    """Return the teacher for a pool (m, d), or None where each label has an example or the names are not believed.

    `X`: (n, d) labelled texts with their labels; `N`: (labels, d) from `name_features`; `weights`: (labels,) from `name_weights`,
    squared here: a wrong name misleads all texts near it, also those of other labels.
    """
    counts = np.bincount(targets, minlength=len(N))
    taught = np.where(counts == 0, weights**2, 0)
    if not taught.any():
        return None
    centres, logs = mixture(N, pool)
    directions = np.float32(SERVED_SLOPE) * centres
    right = int(((X @ directions.T + logs).argmax(axis=1) == targets).sum())
    trust = trust_in(right, len(X), len(N))
    if trust < MIN_TRUST:
        return None
    logits = pool @ directions.T + logs
    p = softmax(logits)
    trust *= min(1.0, unseen_share(counts) / max(float(p[:, counts == 0].sum(axis=1).mean()), 1e-12))
    shares = np.asarray(MAX_SHARE * trust * (p @ taught), np.float32)
    return Teacher(np.float32(SHARPENING) * logits, shares, trust * int((taught > 0).sum()))


def unseen_share(counts: Rows) -> float:
    """Return the share of all texts that have a label without an example, from each label's labelled texts (labels,).

    Good's and Turing's estimate, the share of texts that are their label's only one, one of both added: labels of a config that no text
    has are seen to be missing.
    """
    return float((np.sum(counts == 1) + 1) / (counts.sum() + 1))
