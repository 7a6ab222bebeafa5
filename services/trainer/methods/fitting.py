"""Multinomial logistic regression of weighted rows, some with soft targets: the fit that all linear heads are made by.

The objective is scikit-learn's for C = 20: the sum of the rows' losses times C, plus half the squared weights; the bias is free.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.trainer.data.features import Floats, Rows
from services.trainer.methods import Head
from services.trainer.methods.lbfgs import minimise

C: Final = 20.0
TOLERANCE: Final = 1e-5
"""Of the largest entry of the mean loss's gradient."""
MAX_STEPS: Final = 500
ABSENT: Final = 10.0
"""How far below the lowest logit that of a label without a row is: its probability is nearly 0."""


@dataclass(frozen=True, slots=True)
class WeightedRows:
    """What a head is fitted to: n rows with a label, then m rows with a probability of each label."""

    X: Floats
    """(n + m, d)"""
    targets: Rows
    """(n,) indices of labels."""
    weights: Floats
    """(n + m,) how much each row's loss counts; 1 for a text that a person labelled."""
    soft: Floats
    """(m, labels) rows that sum to 1."""

    @classmethod
    def of(cls, X: Floats, targets: Rows, labels: int) -> WeightedRows:
        """Return labelled texts (n, d), each with weight 1."""
        return cls(X, targets, np.ones(len(X), np.float32), np.empty((0, labels), np.float32))

    def with_labelled(self, X: Floats, targets: Rows, weights: Floats) -> WeightedRows:
        """Add rows (k, d) with a label, of these weights (k,), before those with soft targets."""
        n = len(self.targets)
        return WeightedRows(
            np.concatenate([self.X[:n], X, self.X[n:]]),
            np.concatenate([self.targets, targets]),
            np.concatenate([self.weights[:n], weights, self.weights[n:]]),
            self.soft,
        )

    def with_soft(self, X: Floats, soft: Floats, weights: Floats) -> WeightedRows:
        """Return the labelled rows, and these (m, d) instead of the rows with soft targets."""
        n = len(self.targets)
        return WeightedRows(
            np.concatenate([self.X[:n], X]), self.targets, np.concatenate([self.weights[:n], weights]), soft
        )

    def without(self, excluded: Rows) -> WeightedRows:
        """Leave out the labelled rows with these numbers."""
        n = len(self.targets)
        kept = np.setdiff1d(np.arange(n), excluded)
        rows = np.concatenate([kept, np.arange(n, len(self.X))])
        return WeightedRows(self.X[rows], self.targets[kept], self.weights[rows], self.soft)


def fit(
    rows: WeightedRows,
    start: Head | None = None,
    check: Callable[[], None] = lambda: None,
    tolerance: float = TOLERANCE,
    max_steps: int = MAX_STEPS,
) -> Head:
    """Return the head of least loss, found from `start` on; a label without a labelled row gets a probability of about 0.

    `check` may raise between steps.
    """
    labels, d = rows.soft.shape[1], rows.X.shape[1]
    present, codes = np.unique(rows.targets, return_inverse=True)
    weight, bias = np.zeros((labels, d), np.float32), np.zeros(labels, np.float32)
    if len(present) > 1:
        begin = start or Head(weight, bias)
        loss = _Loss(rows, codes, present, check)
        flat = np.hstack([begin.weight[present], begin.bias[present, None]]).ravel()
        found = minimise(loss, flat, tolerance, max_steps).reshape(len(present), d + 1)
        weight[present], bias[present] = found[:, :-1], found[:, -1]
    absent = np.setdiff1d(np.arange(labels), present)
    if len(absent) and len(present):
        # |w| times the longest row bounds how far a label's logit can fall below its bias.
        longest = float(np.linalg.norm(rows.X, axis=1).max(initial=0.0))
        lowest = bias[present] - longest * np.linalg.norm(weight[present], axis=1)
        bias[absent] = float(lowest.min()) - ABSENT
    return Head(weight, bias)


class _Loss:
    """The mean loss with its gradient, as a function of (labels, d + 1) weights; the last column is the bias."""

    def __init__(self, rows: WeightedRows, codes: Rows, present: Rows, check: Callable[[], None]) -> None:
        total = float(rows.weights.sum(dtype=np.float64))
        self.rows = np.hstack([rows.X, np.ones((len(rows.X), 1), np.float32)])
        self.shares = np.asarray(rows.weights / np.float32(total), np.float32)
        self.codes, self.places, self.labels = codes, np.arange(len(codes)), len(present)
        soft = rows.soft[:, present]
        self.soft = soft / np.maximum(soft.sum(axis=1, keepdims=True), np.float32(1e-12))
        self.penalty = np.full(self.rows.shape[1], 1 / (C * total), np.float32)
        self.penalty[-1] = 0
        self.check = check

    def __call__(self, flat: Floats) -> tuple[float, Floats]:
        """Return value and gradient."""
        self.check()
        n, W = len(self.codes), flat.reshape(self.labels, -1)
        logits = self.rows @ W.T
        logits -= logits.max(axis=1, keepdims=True)
        truth = np.empty(len(logits), np.float64)
        truth[:n] = logits[self.places, self.codes]
        truth[n:] = np.einsum("ij,ij->i", logits[n:], self.soft)
        p = np.exp(logits, out=logits)
        sums = p.sum(axis=1)
        p /= sums[:, None]
        p[self.places, self.codes] -= 1
        p[n:] -= self.soft
        p *= self.shares[:, None]
        gradient = p.T @ self.rows + self.penalty * W
        value = float(self.shares.astype(np.float64) @ (np.log(sums, dtype=np.float64) - truth))
        return value + float((self.penalty * W * W).sum(dtype=np.float64)) / 2, gradient.ravel()
