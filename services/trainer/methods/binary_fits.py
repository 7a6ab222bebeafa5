"""Logistic regression of each label by itself, of all labels at once: what a head is where a text may have several labels.

The objective of each label is scikit-learn's for C = 100: the sum of the rows' losses times C, plus half the squared weights; the
bias is free. A row's weight may differ between labels: a name is a positive example of its label and nothing for the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from services.engine.compute import sigmoid
from services.trainer.data.features import Flags, Floats
from services.trainer.methods import Head
from services.trainer.methods.lbfgs import minimise

C: Final = 100.0
TOLERANCE: Final = 1e-5
"""Of the largest entry of the mean loss's gradient."""
ABSENT: Final = -10.0
"""The logit of a label without a positive example: its probability is nearly 0."""


def fit_each(
    X: Floats,
    chosen: Flags,
    weights: Floats,
    check: Callable[[], None] = lambda: None,
    tolerance: float = TOLERANCE,
) -> Head:
    """Return the head of least loss on rows (n, d) with labels `chosen` and weights, both (n, labels).

    `check` may raise between steps.
    """
    labels, d = chosen.shape[1], X.shape[1]
    weight, bias = np.zeros((labels, d), np.float32), np.full(labels, ABSENT, np.float32)
    present = np.flatnonzero((chosen & (weights > 0)).any(axis=0))
    if len(present):
        loss = _Loss(X, chosen[:, present], weights[:, present], check)
        begin = np.zeros(len(present) * (d + 1), np.float32)
        found = minimise(loss, begin, tolerance).reshape(len(present), d + 1)
        weight[present], bias[present] = found[:, :-1], found[:, -1]
    return Head(weight, bias)


class _Loss:
    """The mean loss with its gradient, as a function of (labels, d + 1) weights; the last column is the bias."""

    def __init__(self, X: Floats, chosen: Flags, weights: Floats, check: Callable[[], None]) -> None:
        n = len(X)
        self.rows = np.hstack([X, np.ones((n, 1), np.float32)])
        self.chosen = chosen.astype(np.float32)
        self.shares = np.asarray(weights / np.float32(n), np.float32)
        self.penalty = np.full(self.rows.shape[1], 1 / (C * n), np.float32)
        self.penalty[-1] = 0
        self.check = check

    def __call__(self, flat: Floats) -> tuple[float, Floats]:
        """Return value and gradient."""
        self.check()
        W = flat.reshape(self.chosen.shape[1], -1)
        logits = self.rows @ W.T
        losses = np.logaddexp(np.float32(0), logits) - self.chosen * logits
        gradient = (self.shares * (sigmoid(logits) - self.chosen)).T @ self.rows + self.penalty * W
        value = float((self.shares * losses).sum(dtype=np.float64))
        return value + float((self.penalty * W * W).sum(dtype=np.float64)) / 2, gradient.ravel()
