"""What a head answers for the tasks of a pool whose features are known."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from services.core.features import Features, Keys
from services.core.pool import Pool, PoolPredictions, TaskIds
from services.engine.compute import certainty
from services.engine.head import Head

_ROWS: Final = 8192
"""Answered at once."""


def answer_pool(pool: Pool, features: Features, head: Head) -> PoolPredictions:
    """Answer all tasks with features, 8,192 at a time, so that no table of probabilities is large."""
    rows = features.rows(pool.keys)
    known = np.flatnonzero((rows >= 0) & pool.has_text)
    parts = (known[start : start + _ROWS] for start in range(0, max(1, len(known)), _ROWS))
    return PoolPredictions.join(
        [_answer(pool.tasks[part], pool.keys[part], features.x[rows[part]], head) for part in parts]
    )


def _answer(tasks: TaskIds, keys: Keys, x: NDArray[np.floating[Any]], head: Head) -> PoolPredictions:
    probabilities = head.probabilities(x.astype(np.float32))
    if head.thresholds is None:
        return PoolPredictions.of(tasks, keys, probabilities)
    return PoolPredictions.of_several(tasks, keys, probabilities, head.thresholds, certainty(probabilities))
