"""methods.fitting: logistic regression as scikit-learn fits it, with weights and soft targets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import Preempted
from services.engine.compute import softmax
from services.trainer.data.features import Floats, Rows
from services.trainer.methods import Head
from services.trainer.methods.fitting import C, WeightedRows, fit
from services.trainer.process.lifecycle import Stop
from tests.support.points import points


def _rows(n: int = 240, labels: int = 6, seed: int = 0) -> WeightedRows:
    found = points(n, 0, 24, labels, seed)
    x = found.X / np.linalg.norm(found.X, axis=1, keepdims=True)
    return WeightedRows.of(x, found.targets, labels)


def _probabilities(x: Floats, head: Head) -> Floats:
    return softmax(x @ head.weight.T + head.bias)


def _one_hot(targets: Rows, labels: int = 6) -> Floats:
    return np.eye(labels, dtype=np.float32)[targets]


def test_fit_equals_that_of_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    rows = _rows()
    weights = np.random.default_rng(0).uniform(0.1, 1, len(rows.X)).astype(np.float32)
    weighted = WeightedRows(rows.X, rows.targets, weights, rows.soft)
    for given_, sample_weight in ((rows, None), (weighted, weights)):
        regression = LogisticRegression(C=C, tol=1e-8, max_iter=5_000)
        expected = regression.fit(rows.X, rows.targets, sample_weight).predict_proba(rows.X)
        found = _probabilities(rows.X, fit(given_))
        assert np.abs(found - expected).max() < 5e-3
        assert (found.argmax(1) == expected.argmax(1)).all()


def test_warm_start_converges_to_the_same() -> None:
    rows = _rows()
    some = rows.without(np.arange(200, 240))
    warm, cold = fit(some, start=fit(rows)), fit(some)
    assert np.abs(_probabilities(rows.X, warm) - _probabilities(rows.X, cold)).max() < 5e-3


@settings(max_examples=20)
@given(st.integers(0, 30), st.integers(0, 30))
def test_a_certain_soft_target_is_a_label(seed: int, soft: int) -> None:
    rows = _rows(60, seed=seed)
    x, targets = rows.X[:soft], rows.targets[:soft]
    half = np.full(soft, 0.5, np.float32)
    hard = fit(rows.with_labelled(x, targets, half))
    same = fit(rows.with_soft(x, _one_hot(targets), half))
    assert np.abs(_probabilities(rows.X, hard) - _probabilities(rows.X, same)).max() < 5e-3


def test_two_rows_count_like_one_of_twice_the_weight() -> None:
    rows = _rows(60)
    twice = fit(rows.with_labelled(rows.X, rows.targets, rows.weights))
    heavy = fit(WeightedRows(rows.X, rows.targets, 2 * rows.weights, rows.soft))
    assert np.abs(_probabilities(rows.X, twice) - _probabilities(rows.X, heavy)).max() < 5e-3


def test_a_label_without_a_row_gets_no_probability() -> None:
    rows = _rows()
    head = fit(rows.without(np.flatnonzero(rows.targets == 3)))
    assert _probabilities(rows.X, head)[:, 3].max() < 1e-4
    alone = fit(rows.without(np.flatnonzero(rows.targets != 2)))
    assert _probabilities(rows.X, alone)[:, 2].min() > 0.99


def test_fit_is_preempted_between_steps() -> None:
    with pytest.raises(Preempted):
        fit(_rows(), check=Stop(requested=True).check)


def test_equal_texts_of_several_labels_get_their_shares() -> None:
    x = np.zeros((9, 4), np.float32)
    head = fit(WeightedRows.of(x, np.array([0, 0, 0, 0, 0, 0, 1, 1, 2]), 3))
    assert _probabilities(x[:1], head)[0] == pytest.approx([6 / 9, 2 / 9, 1 / 9], abs=1e-3)
