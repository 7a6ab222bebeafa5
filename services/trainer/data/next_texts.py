"""Which unlabelled texts are to be labelled next: uncertain ones that differ from each other. Pure.

The most uncertain texts resemble each other, so a label of one says little more after a label of another. The seeding of k-means++ picks
texts that lie far apart, each among a few more of the most uncertain ones than the one before: however many are labelled before a newer
version orders them anew, they are both. They get the lowest scores, which are taken from the column of scores itself: Label Studio's
uncertainty sampling obeys the order of scores alone, and the column keeps its range.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.features import Features, Rows
from services.core.pool import Pool, PoolPredictions

BATCH: Final = 50
"""Picked texts: what people label until a newer version orders them anew, five times the labels that start a run by default."""
CANDIDATES: Final = 5
"""Texts more for each one that is picked."""
MOST_CANDIDATES: Final = 0.25
"""Share of the pool that may be candidates: of a small one the rest is not uncertain."""

Vectors = NDArray[np.float64]


def spread(
    predictions: PoolPredictions, features: Features, pool: Pool, seed: int, batch: int = BATCH
) -> PoolPredictions:
    """Return the predictions of these tasks of the pool with texts that are uncertain and differ from each other first."""
    most = min(CANDIDATES * batch, int(MOST_CANDIDATES * len(predictions)))
    keys = pool.keys[np.searchsorted(pool.tasks, predictions.tasks[:most])]
    X = features.x[features.rows(keys)].astype(np.float64)
    return predictions.with_first(far_apart(X, min(batch, most), seed))


def far_apart(X: Vectors, number: int, seed: int) -> Rows:
    """Return at most so many rows of X (n, d), the first one first; no two are equal.

    The k-th one is drawn among the first CANDIDATES · k rows, with a probability proportional to its squared distance from the nearest
    one that was picked.
    """
    random, picked = np.random.default_rng(seed), [0][: min(number, len(X))]
    nearest = np.full(len(X), np.inf)
    for k in range(2, number + 1):
        nearest = np.minimum(nearest, np.square(X - X[picked[-1]]).sum(axis=1)) if picked else nearest
        some = nearest[: CANDIDATES * k]
        total = some.sum()
        if 0 < total < np.inf:  # else all of them equal one that was picked
            picked.append(int(random.choice(len(some), p=some / total)))
    return np.array(picked, np.int64)
