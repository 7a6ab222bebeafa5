"""Thresholds and calibration where a text may have several labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from services.engine.compute import sigmoid
from services.trainer.methods import Head
from services.trainer.methods.thresholds import (
    MAX_THRESHOLD,
    apply_by_fold,
    best_threshold,
    calibrate,
    choose,
    shrunk_thresholds,
)


def _f1(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    return 2 * int((found & true).sum()) / max(1, int(found.sum() + true.sum()))


def _given(texts: int, labels: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    random = np.random.default_rng(seed)
    logits = random.normal(-2, 2, (texts, labels)).astype(np.float32)
    return logits, random.random((texts, labels)) < sigmoid(logits)


@given(st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_no_threshold_finds_more(texts: int, seed: int) -> None:
    logits, chosen = _given(texts, 1, seed)
    logits, chosen = logits[:, 0], chosen[:, 0]
    found = best_threshold(logits, chosen)
    best = _f1(logits >= found, chosen)
    if chosen.any():
        assert best >= max(_f1(logits >= other, chosen) for other in logits) - 1e-9
    else:
        assert found == 0.0


@given(arrays.arrays(np.float32, 6, elements=st.sampled_from([-1.0, 0.0, 1.0])), st.integers(1, 63))
def test_equal_logits_are_chosen_together(logits: NDArray[np.float32], bits: int) -> None:
    chosen = np.array([bits >> place & 1 for place in range(6)], np.bool_)
    assert best_threshold(logits, chosen) not in logits.tolist()


def test_a_rare_label_has_the_common_threshold() -> None:
    logits, chosen = _given(400, 3, 0)
    chosen[:, 2] = False
    chosen[0, 2] = True
    found, common = shrunk_thresholds(logits, chosen), best_threshold(logits.ravel(), chosen.ravel())
    own = best_threshold(logits[:, 2], chosen[:, 2])
    assert found[2] == pytest.approx((own + 10 * common) / 11, abs=1e-5)
    assert abs(found[0] - best_threshold(logits[:, 0], chosen[:, 0])) < 0.2


def test_overconfident_logits_are_flattened() -> None:
    logits, chosen = _given(2000, 5, 1)
    slope, shift = calibrate(logits * 3 + 1, chosen)
    assert (slope, shift) == pytest.approx((1 / 3, -1 / 3), abs=0.05)


def test_a_few_texts_change_little() -> None:
    assert calibrate(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.bool_)) == (1.0, 0.0)
    slope, shift = calibrate(np.array([[2.0]], np.float32), np.array([[True]]))
    assert (slope, shift) == pytest.approx((1, 0), abs=0.3)
    assert calibrate(np.array([[np.inf]], np.float32), np.array([[True]])) == (1.0, 0.0)


@given(st.integers(1, 30), st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_folding_chooses_the_same(texts: int, labels: int, seed: int) -> None:
    logits, chosen = _given(texts, labels, seed)
    found = choose(logits, chosen)
    head = found.fold(Head(np.eye(labels, dtype=np.float32), np.zeros(labels, np.float32)))
    served = logits @ head.weight.T + head.bias
    assert np.allclose(served, found.apply(logits), atol=1e-3)
    calibrated = sigmoid(np.float32(found.slope) * logits + np.float32(found.shift))
    clear = np.abs(served) > 1e-3
    assert ((served >= 0) == (calibrated >= found.probabilities))[clear].all()
    assert (np.abs(found.thresholds) <= MAX_THRESHOLD).all()
    assert ((found.probabilities > 0) & (found.probabilities < 1)).all()


def test_answers_of_a_fold_do_not_depend_on_its_labels() -> None:
    logits, chosen = _given(60, 4, 1)
    folds = np.arange(60) % 5
    found = apply_by_fold(logits, chosen, folds)
    other = np.where((folds == 2)[:, None], ~chosen, chosen)
    again = apply_by_fold(logits, other, folds)
    np.testing.assert_array_equal(found[folds == 2], again[folds == 2])
    assert not np.array_equal(found[folds != 2], again[folds != 2])
    expected = choose(logits[folds != 2], chosen[folds != 2]).apply(logits[folds == 2])
    np.testing.assert_array_equal(found[folds == 2], expected)


def test_own_thresholds_flatter() -> None:
    own, honest = list[float](), list[float]()
    for seed in range(20):
        logits, chosen = _given(40, 12, seed)
        own.append(_f1(choose(logits, chosen).apply(logits) >= 0, chosen))
        honest.append(_f1(apply_by_fold(logits, chosen, np.arange(40) % 5) >= 0, chosen))
    assert np.mean(own) > np.mean(honest) + 0.02


def test_one_fold_is_left_as_it_is() -> None:
    logits, chosen = _given(5, 2, 0)
    np.testing.assert_array_equal(apply_by_fold(logits, chosen, np.zeros(5, np.int64)), logits)
