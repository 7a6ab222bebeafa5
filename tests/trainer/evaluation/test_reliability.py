"""evaluation.reliability: answers by probability, of texts and of each label of each text."""

from __future__ import annotations

import json

import numpy as np
import pytest

from services.core import documents
from services.core.calibration import Calibration, calibration_message, calibration_of
from services.core.domain import Report
from services.trainer.evaluation.reliability import reliability, reliability_of_labels


def test_expected_calibration_error() -> None:
    probabilities = np.array([[0.9, 0.1]] * 10, np.float32)
    assert reliability(probabilities, np.array([0] * 9 + [1])).error == pytest.approx(0.0, abs=1e-6)
    assert reliability(probabilities, np.array([1] * 10)).error == pytest.approx(0.9)
    assert reliability(np.zeros((0, 2), np.float32), np.zeros(0, np.int64)).error == 0.0


def test_bins_hold_their_upper_edge() -> None:
    probabilities = np.array([[1.0, 0.0], [0.5, 0.5], [0.6, 0.4]])
    found = reliability(probabilities, np.array([0, 1, 0]), bins=2)
    assert found.texts.tolist() == found.answers.tolist() == found.independent.tolist() == [1, 2]
    assert found.probability.tolist() == pytest.approx([0.5, 1.6])
    assert found.right.tolist() == [0.0, 2.0]


def test_each_label_of_each_text_is_an_answer() -> None:
    probabilities = np.array([[0.1, 0.9, 0.2], [0.2, 0.95, 0.6]])
    found = reliability_of_labels(probabilities, np.array([[0, 1, 0], [0, 0, 1]], np.bool_), 2)
    assert (found.texts.tolist(), found.answers.tolist()) == ([2, 2], [3, 3])
    assert found.right.tolist() == [0, 2]
    assert found.probability.tolist() == pytest.approx([0.5, 2.45])


def test_parts_add_up_to_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers are counted some texts at a time, however many labels a text has."""
    rng = np.random.default_rng(0)
    p = rng.random((50, 7)).astype(np.float32)
    true = rng.random(p.shape) < p
    whole = reliability_of_labels(p, true)
    for answers in (1, 20, 100):
        monkeypatch.setattr("services.trainer.evaluation.reliability._ANSWERS", answers)
        parts = reliability_of_labels(p, true)
        for name in ("texts", "answers", "probability", "right", "independent"):
            assert getattr(parts, name) == pytest.approx(getattr(whole, name))


def test_no_texts_have_no_answers() -> None:
    found = reliability_of_labels(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.bool_))
    assert (found.error, found.answers.sum(), found.rows()[0]["right"]) == (0.0, 0, None)


def calibration_of_copies(copies: int, texts: int, seed: int) -> Calibration:
    """Calibrated answers of 10 labels, of which always `copies` are the same one."""
    rng = np.random.default_rng(seed)
    p = rng.beta(2, 2, (texts, 10 // copies))
    true = rng.random(p.shape) < p
    found = reliability_of_labels(np.repeat(p, copies, axis=1), np.repeat(true, copies, axis=1))
    written = json.dumps({"judged": texts, "reliability": found.rows()}).encode()
    calibration = calibration_of(documents.load(Report, written, "report.json"))
    assert calibration is not None
    assert (calibration.texts, calibration.answers) == (texts, 10 * texts)
    return calibration


@pytest.mark.parametrize("copies", [1, 2, 10])
def test_chance_knows_that_answers_to_a_text_depend_on_each_other(copies: int) -> None:
    found = [calibration_of_copies(copies, 400, seed) for seed in range(20)]
    assert 0.8 < np.mean([one.error / one.by_chance for one in found]) < 1.2
    assert "on 400 texts" in calibration_message(found[0])
