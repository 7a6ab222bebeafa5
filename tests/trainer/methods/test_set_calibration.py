"""What a fine-tune's logits become where a text may have several labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.core.domain import Method, Parameters
from services.engine.compute import sigmoid
from services.trainer.methods import Head, OutOfSampleLogits, TrainedModel
from services.trainer.methods.set_calibration import with_thresholds
from tests.trainer.evaluation.datasets import dataset_of, sets_of

DATASET = sets_of([("A",), (), ("A", "B"), ("B",)] * 10)
X = np.random.default_rng(0).normal(0, 2, (40, 3)).astype(np.float32)
HEAD = Head(np.array([[1, 0, 0], [0, 1, 0]], np.float32), np.array([0.5, -1], np.float32))


def _trained(head: Head | None, rows: int = 40) -> TrainedModel:
    logits = X @ HEAD.weight.T + HEAD.bias
    out = OutOfSampleLogits(
        np.arange(rows), logits[:rows], np.ones(rows, np.bool_), np.zeros(40, np.int64), "holdout"
    )
    return TrainedModel(
        Method.LP_FT, None, head, logits, out, np.ones(40, np.bool_), Parameters(), unseen=logits[:5]
    )


def test_a_head_answers_the_shifted_logits() -> None:
    found = with_thresholds(_trained(HEAD), DATASET)
    assert found.head is not None
    assert found.choice is None
    assert found.thresholds is not None
    np.testing.assert_allclose(X @ found.head.weight.T + found.head.bias, found.logits, atol=1e-5)
    assert found.unseen is not None
    np.testing.assert_array_equal(found.unseen, found.logits[:5])
    calibrated = sigmoid(found.logits + np.log(found.thresholds / (1 - found.thresholds)))
    np.testing.assert_array_equal(found.logits >= 0, calibrated >= found.thresholds)


def test_a_classifier_keeps_what_is_to_be_folded() -> None:
    found = with_thresholds(_trained(None), DATASET)
    assert found.head is None
    assert found.choice is not None
    np.testing.assert_array_equal(found.choice.apply(_trained(None).logits), found.logits)


def test_evaluated_answers_do_not_choose_their_thresholds() -> None:
    found = with_thresholds(_trained(HEAD, rows=20), DATASET)
    assert not np.array_equal(found.out_of_sample.logits, found.logits[:20])
    assert (found.out_of_sample.rows, found.out_of_sample.source)[1] == "holdout"


def test_no_answer_out_of_sample_means_half() -> None:
    found = with_thresholds(_trained(HEAD, rows=0), DATASET)
    assert found.thresholds == pytest.approx([0.5, 0.5])
    assert found.out_of_sample.logits.shape == (0, 2)


def test_single_labels_are_left_alone() -> None:
    trained = _trained(HEAD)
    assert with_thresholds(trained, replace(dataset_of(["A", "B"] * 20))) is trained
