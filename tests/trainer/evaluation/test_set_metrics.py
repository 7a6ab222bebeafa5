"""Metrics where a text may have several labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.evaluation.set_metrics import (
    estimate_sets,
    expected_f1,
    f1_of_labels,
    micro_f1,
)

TRUE = np.array([[1, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], np.bool_)
FOUND = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 1]], np.bool_)


def test_f1_by_label_and_over_all() -> None:
    assert f1_of_labels(FOUND, TRUE).tolist() == pytest.approx([1, 2 / 3, 0])
    assert micro_f1(FOUND, TRUE) == pytest.approx(2 * 3 / 8)
    assert micro_f1(TRUE[2:3], TRUE[2:3]) == 1.0


def test_an_estimate_counts_texts_that_are_wholly_right() -> None:
    found = estimate_sets(FOUND, TRUE, "cross-fit", np.array([True, False, False, False]))
    assert (found.judged, found.right, found.source) == (4, 2, "cross-fit")
    assert found.low < 0.5 < found.high
    assert found.micro_f1 == pytest.approx(0.75)
    assert found.macro_f1 == pytest.approx((1 + 2 / 3) / 2)
    assert (found.judged_without_near_duplicates, found.right_without_near_duplicates) == (3, 2)


@given(st.integers(0, 2**32 - 1))
def test_what_is_expected_of_calibrated_answers_comes_true(seed: int) -> None:
    random = np.random.default_rng(seed)
    probabilities = random.beta(0.3, 1.5, (3000, 4))
    found, true = probabilities >= 0.4, random.random((3000, 4)) < probabilities
    assert expected_f1(found, probabilities) == pytest.approx(micro_f1(found, true), abs=0.03)


def test_nothing_is_expected_of_nothing() -> None:
    assert expected_f1(np.zeros((0, 3), np.bool_), np.zeros((0, 3))) is None
