"""evaluation.metrics: the same as scikit-learn's, with intervals that contain the accuracy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics

from services.core.intervals import wilson_interval
from services.engine.compute import softmax
from services.trainer.evaluation.metrics import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    accuracy_in_words,
    confusion_matrix,
    estimate,
    f1,
    fit_temperature,
    share_in_words,
)
from services.trainer.evaluation.reliability import reliability


def one_hot(predicted: list[int], labels: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.eye(labels, dtype=np.float32)[predicted]


ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@given(ANSWERS)
@settings(max_examples=25)  # scikit-learn takes its time
def test_confusion_matrix_and_f1_equal_scikit_learns(answers: list[tuple[int, int]]) -> None:
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


def test_estimate_without_near_duplicates() -> None:
    targets, near = np.array([0, 1, 1, 0]), np.array([True, False, False, True])
    found = estimate(one_hot([0, 1, 0, 1], 2), targets, "holdout", near)
    assert (found.judged, found.right, found.source) == (4, 2, "holdout")
    assert (found.judged_without_near_duplicates, found.right_without_near_duplicates) == (2, 1)
    assert (found.low, found.high) == wilson_interval(2, 4)


def test_estimate_of_no_texts() -> None:
    found = estimate(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), "holdout", np.zeros(0, np.bool_))
    assert (found.judged, found.low, found.high, found.macro_f1) == (0, 0.0, 1.0, 0.0)
    assert accuracy_in_words(found) == "too few labels to tell"


def test_accuracy_is_shown_from_20_texts_on() -> None:
    assert share_in_words(14, 30) == "47 % (30–64)"
    assert share_in_words(19, 19) == "too few labels to tell"
    assert share_in_words(20, 20) == "100 % (84–100)"
    found = estimate(one_hot([0] * 30, 2), np.array([0] * 14 + [1] * 16), "cross-fit", None)
    assert accuracy_in_words(found) == "47 % (30–64)"


def drawn(
    seed: int, texts: int, labels: int, temperature: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Logits that are `temperature` times too large, and labels drawn by the true probabilities."""
    random = np.random.default_rng(seed)
    true = random.normal(0, 2, (texts, labels))
    targets = (true + random.gumbel(size=true.shape)).argmax(axis=1)
    return (true * temperature).astype(np.float32), targets.astype(np.int64)


@settings(max_examples=40)
@given(st.integers(0, 10_000), st.integers(2, 12), st.sampled_from([0.2, 0.5, 1.0, 2.0, 8.0]))
def test_recovers_a_known_temperature(seed: int, labels: int, temperature: float) -> None:
    logits, targets = drawn(seed, 2_000, labels, temperature)
    assert fit_temperature(logits, targets) == pytest.approx(temperature, rel=0.25)


def test_temperature_minimises_the_log_loss() -> None:
    """But for the one imagined text, which 5,000 texts outweigh."""
    logits, targets = drawn(1, 5_000, 5, 3.0)

    def loss(temperature: float) -> float:
        return -float(np.log(softmax(logits, temperature)[np.arange(len(targets)), targets]).mean())

    found = fit_temperature(logits, targets)
    assert loss(found) <= min(loss(found * 0.97), loss(found * 1.03))
    assert reliability(softmax(logits, found), targets).error < 0.03


@given(st.integers(0, 1_000), st.integers(20, 60), st.integers(2, 5), st.floats(-20, 20))
def test_temperature_is_shift_invariant(seed: int, texts: int, labels: int, shift: float) -> None:
    logits, targets = drawn(seed, texts, labels, 2.0)
    found = fit_temperature(logits, targets)
    assert MIN_TEMPERATURE <= found <= MAX_TEMPERATURE
    assert (softmax(logits, found).argmax(axis=1) == logits.argmax(axis=1)).all()
    assert fit_temperature(logits + np.float32(shift), targets) == pytest.approx(found, rel=1e-2)


def test_no_errors_do_not_make_every_probability_one() -> None:
    """Scores that are all 1.0 could not be sorted by."""
    targets = np.arange(20) % 2
    logits = np.eye(2, dtype=np.float32)[targets] * np.linspace(1, 3, 20, dtype=np.float32)[:, None]
    top = softmax(logits, fit_temperature(logits, targets)).max(axis=1)
    assert 0.9 < top.mean() < 0.99
    assert len(np.unique(top)) == 20


def test_random_answers_get_flat_probabilities() -> None:
    logits, _ = drawn(3, 400, 4, 1.0)
    targets = np.random.default_rng(4).integers(0, 4, 400)
    assert softmax(logits, fit_temperature(logits, targets)).max(axis=1).mean() < 0.45


@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        (np.zeros((0, 3)), np.zeros(0)),
        (np.ones((19, 2)), np.arange(19) % 2),
        (np.eye(2)[[0] * 30], np.zeros(30)),
        (np.where(np.eye(2)[[0, 1] * 20] > 0, np.inf, 0.0), np.arange(40) % 2),
        (np.full((40, 2), np.nan), np.arange(40) % 2),
    ],
    ids=["nothing", "19 texts", "one class", "infinite", "no numbers"],
)
def test_temperature_is_one_if_it_cannot_be_fitted(
    logits: NDArray[np.float64], targets: NDArray[np.float64]
) -> None:
    assert fit_temperature(logits.astype(np.float32), targets.astype(np.int64)) == 1.0


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_extreme_logits_give_a_temperature_within_bounds(scale: float) -> None:
    logits, targets = drawn(5, 50, 3, 1.0)
    assert MIN_TEMPERATURE <= fit_temperature(logits * np.float32(scale), targets) <= MAX_TEMPERATURE


def test_probabilities_are_float32_and_sum_to_one() -> None:
    logits, _ = drawn(6, 100, 7, 500.0)
    found = softmax(logits, 0.05)
    assert found.dtype == np.float32
    assert found.sum(axis=1) == pytest.approx(np.ones(100), abs=1e-6)
    assert softmax(np.zeros((0, 3), np.float32)).shape == (0, 3)
