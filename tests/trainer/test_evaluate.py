"""trainer.evaluate: figures that hold, with intervals that contain them; the same as scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from services.trainer.evaluate import (
    accuracy_in_words,
    confusion_matrix,
    estimate,
    f1,
    near_duplicates,
    share_in_words,
    wilson_interval,
)


def one_hot(predicted: list[int], labels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.eye(labels, dtype=np.float32)[predicted]


@given(st.integers(0, 100_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_s_interval_lies_in_0_to_1_and_holds_the_share(pair: tuple[int, int]) -> None:
    right, judged = pair
    low, high = wilson_interval(right, judged)
    assert 0.0 <= low <= high <= 1.0
    if judged:
        assert low <= right / judged <= high


@given(st.integers(0, 200), st.integers(0, 200))
def test_wilson_s_interval_is_the_same_for_right_and_wrong(right: int, wrong: int) -> None:
    low, high = wilson_interval(right, right + wrong)
    assert wilson_interval(wrong, right + wrong) == pytest.approx((1 - high, 1 - low))


def test_wilson_s_known_figures() -> None:
    assert wilson_interval(47, 100) == pytest.approx((0.3751, 0.5671), abs=1e-4)
    assert wilson_interval(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert wilson_interval(0, 0) == (0.0, 1.0)


ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(ANSWERS)
@settings(max_examples=25)  # scikit-learn takes its time
def test_confusion_and_macro_f1_are_scikit_learn_s(answers: list[tuple[int, int]]) -> None:
    predicted, targets = (np.array(column, np.int64) for column in zip(*answers, strict=True))
    matrix = confusion_matrix(predicted, targets, 4)
    assert (matrix == metrics.confusion_matrix(targets, predicted, labels=range(4))).all()
    assert f1(matrix) == pytest.approx(
        metrics.f1_score(targets, predicted, labels=range(4), average=None, zero_division=0)
    )
    found = estimate(one_hot(predicted.tolist(), 4), targets, "cross-fit", None)
    judged = np.unique(targets)
    assert found.macro_f1 == pytest.approx(
        metrics.f1_score(targets, predicted, labels=judged, average="macro", zero_division=0)
    )


def test_an_estimate_counts_texts_without_near_duplicates_apart() -> None:
    targets, near = np.array([0, 1, 1, 0]), np.array([True, False, False, True])
    found = estimate(one_hot([0, 1, 0, 1], 2), targets, "holdout", near)
    assert (found.judged, found.right, found.source) == (4, 2, "holdout")
    assert (found.judged_without_near_duplicates, found.right_without_near_duplicates) == (2, 1)
    assert (found.low, found.high) == wilson_interval(2, 4)


def test_an_estimate_of_nothing_says_nothing() -> None:
    found = estimate(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), "holdout", np.zeros(0, np.bool_))
    assert (found.judged, found.low, found.high, found.macro_f1) == (0, 0.0, 1.0, 0.0)
    assert accuracy_in_words(found) == "too few labels to say"


def test_people_read_a_share_with_its_interval_from_20_texts_on() -> None:
    assert share_in_words(14, 30) == "47 % (30–64)"
    assert share_in_words(19, 19) == "too few labels to say"
    assert share_in_words(20, 20) == "100 % (84–100)"
    found = estimate(one_hot([0] * 30, 2), np.array([0] * 14 + [1] * 16), "cross-fit", None)
    assert accuracy_in_words(found) == "47 % (30–64)"


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=30),
    st.sampled_from([0.5, 0.95]),
)
def test_near_duplicates_are_those_of_another_fold(rows: list[tuple[int, int]], threshold: float) -> None:
    places = np.array([place for place, _ in rows], np.int64)
    folds = np.array([fold for _, fold in rows], np.int64)
    angles = places * 0.25
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32).reshape(-1, 2)
    close = (features @ features.T >= threshold) & (folds[:, None] != folds[None, :])
    assert (near_duplicates(features, folds, threshold) == close.any(axis=1)).all()


def test_near_duplicates_are_found_beyond_one_block() -> None:
    features = np.eye(2_500, 2_500, dtype=np.float32)
    features[2_400] = features[3]
    folds = np.where(np.arange(2_500) < 1_250, 0, 1)
    assert np.flatnonzero(near_duplicates(features, folds)).tolist() == [3, 2_400]
