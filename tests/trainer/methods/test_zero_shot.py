"""methods.zero_shot: a head without labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.compute import softmax
from services.trainer.methods.zero_shot import mixture, zero_shot
from tests.support.points import accuracy, points


def test_unlabelled_texts_improve_on_names_alone() -> None:
    alone, both = [], []
    for seed in range(5):
        found = points(seed=seed)
        alone.append(accuracy(zero_shot(found.names, found.pool[:0]), found.pool, found.pool_targets))
        both.append(accuracy(zero_shot(found.names, found.pool), found.pool, found.pool_targets))
    assert np.mean(both) > np.mean(alone) > 0.5


@given(st.integers(0, 50), st.integers(1, 7), st.integers(0, 40))
def test_labels_may_come_in_any_order(seed: int, labels: int, m: int) -> None:
    found = points(1, m, 8, labels, seed)
    order = np.random.default_rng(seed).permutation(labels)
    head, same = zero_shot(found.names, found.pool), zero_shot(found.names[order], found.pool)
    assert np.isfinite(head.weight).all()
    assert same.weight == pytest.approx(head.weight[order], abs=1e-3)
    assert same.bias == pytest.approx(head.bias[order], abs=1e-3)


def test_shares_follow_the_texts() -> None:
    found = points(1, 300)
    many = found.pool[(found.pool_targets == 0) | (np.arange(300) % 5 == 0)]
    _, logs = mixture(found.names / np.float32(5), many / np.float32(5))
    assert np.exp(logs).sum() == pytest.approx(1, abs=1e-4)
    assert logs.argmax() == 0


def test_names_that_are_all_equal_answer_without_a_preference() -> None:
    found = points()
    head = zero_shot(np.ones_like(found.names), found.pool)
    p = softmax(found.pool @ head.weight.T + head.bias)
    assert p == pytest.approx(np.full_like(p, 1 / 6), abs=1e-3)
