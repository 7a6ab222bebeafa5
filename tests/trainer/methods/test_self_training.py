"""methods.self_training: what unlabelled texts add, and how much they may."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.data.pool import MAX_TEXTS
from services.trainer.methods.fitting import WeightedRows, fit
from services.trainer.methods.scaling import Scale
from services.trainer.methods.self_training import (
    MAX_SHARE,
    MAX_WEIGHT,
    is_worthwhile,
    self_train,
    soft_targets,
    split_pool,
)
from services.trainer.methods.teacher import Teacher
from tests.support.points import accuracy, points


def _silent(m: int, labels: int) -> Teacher:
    return Teacher(np.zeros((m, labels), np.float32), np.zeros(m, np.float32), 0.0)


def test_unlabelled_texts_help_a_head_of_few() -> None:
    before, after = [], []
    for seed in range(5):
        found = points(18, 400, seed=seed)
        scale = Scale.of(found.X, found.pool)
        rows = WeightedRows.of(scale.apply(found.X), found.targets, 6)
        head = fit(rows)
        pool, new = scale.apply(found.pool[:300]), scale.apply(found.pool[300:])
        trained = self_train(head, rows, pool, len(found.X), _silent(len(pool), 6))
        before.append(accuracy(head, new, found.pool_targets[300:]))
        after.append(accuracy(trained, new, found.pool_targets[300:]))
    assert np.mean(after) > np.mean(before)


@given(st.integers(0, 99), st.integers(0, 50), st.integers(1, 30), st.floats(1, 4))
def test_unlabelled_texts_weigh_a_bounded_share(seed: int, m: int, labelled: int, sharpening: float) -> None:
    logits = 5 * np.random.default_rng(seed).normal(size=(m, 3)).astype(np.float32)
    q, weights = soft_targets(logits, sharpening, labelled, _silent(m, 3))
    assert q.sum(axis=1) == pytest.approx(np.ones(m), abs=1e-5)
    assert weights.sum() <= MAX_SHARE * labelled * 1.001
    assert ((weights >= 0) & (weights <= MAX_WEIGHT)).all()


@given(st.integers(0, 3 * MAX_TEXTS))
def test_texts_are_trained_on_or_held(m: int) -> None:
    pool = np.arange(m, dtype=np.float32)[:, None]
    used, held = split_pool(pool)
    assert len(used) <= MAX_TEXTS
    assert len(held) <= MAX_TEXTS
    assert not np.isin(used, held).any()
    assert len(used) + len(held) == min(m, len(used) + MAX_TEXTS)


def test_few_texts_a_label_are_not_used() -> None:
    assert is_worthwhile(385, 77)
    assert not is_worthwhile(384, 77)
    assert not is_worthwhile(0, 0)
