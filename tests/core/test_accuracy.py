"""core.accuracy: what people are told about a version's accuracy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.core.accuracy import (
    cross_validated,
    errors_message,
    headline,
    headline_sentence,
    named_headline,
    score_message,
)
from services.core.domain import Estimate, EstimateErrors, EstimateScore, ExpectedAccuracy, Selection
from tests.support.manifests import build_manifest

JUDGED = Estimate(34, 16, 0.327, 0.61, 0.4, "cross-fit")
SCORE = EstimateScore("v-1", 1.0, 0.84, 0.05, 120, 60, 0.80, 0.03, Selection.UNCERTAIN)
ERRORS = EstimateErrors(10, 0.031, 0.02, 0.018, 52, Selection.RANDOM)


@pytest.mark.parametrize(
    ("expected", "estimate", "words"),
    [
        (ExpectedAccuracy(0.803, 0.0512, 2000), JUDGED, "about 80 % (±5)"),
        (ExpectedAccuracy(0.999, 0.0001, 2000), JUDGED, "about 100 % (±1)"),
        (ExpectedAccuracy(None), JUDGED, "too few labels to say"),
        (ExpectedAccuracy(None, reason="from label names only"), JUDGED, "from label names only"),
        (None, JUDGED, "47 % (33–61), cross-validated"),
        (None, replace(JUDGED, source="holdout"), "47 % (33–61), on a holdout"),
        (None, replace(JUDGED, judged=19), "too few labels to say"),
    ],
)
def test_headline(expected: ExpectedAccuracy | None, estimate: Estimate, words: str) -> None:
    assert headline(expected, estimate) == words


def test_cross_validated_accuracy_needs_twenty_texts() -> None:
    assert cross_validated(JUDGED) == "47 % (33–61)"
    assert cross_validated(replace(JUDGED, judged=19)) == "too few labels to say"


def test_score_of_a_version_in_words() -> None:
    assert score_message(None) == ""
    assert "120 later annotations, chosen by uncertainty" in score_message(SCORE)
    assert "the newest version's answers" in score_message(SCORE)
    assert "newest" not in score_message(replace(SCORE, selection=Selection.RANDOM))
    assert score_message(SCORE).endswith("the estimate was 4 points too high.")
    assert score_message(replace(SCORE, expected=0.79)).endswith("the estimate was 1 point too low.")
    assert score_message(replace(SCORE, expected=0.801)).endswith("the estimate was right.")


def test_errors_of_the_last_versions_in_words() -> None:
    assert errors_message(None) == ""
    assert errors_message(ERRORS).startswith("The last 10 estimates were off by 3 points on average")
    assert "chance alone makes about 2 points" in errors_message(ERRORS)
    one = errors_message(replace(ERRORS, versions=1, error=0.01))
    assert one.startswith(
        "The last estimate was off by 1 point, compared with at least 52 later annotations,"
    )


def test_the_figure_of_several_labels_is_f1() -> None:
    found = ExpectedAccuracy(0.574, 0.07, 500, measure="F1")
    several = Estimate(50, 7, 0.1, 0.2, 0.5, "cross-fit", micro_f1=0.553)
    assert headline(found, several) == "F1 about 57 % (±7)"
    assert cross_validated(several) == "F1 55 %"


@pytest.mark.parametrize(
    ("expected", "micro_f1", "named", "sentence"),
    [
        (ExpectedAccuracy(0.8, 0.05), None, "accuracy about 80 % (±5)", "Accuracy: about 80 % (±5)."),
        (ExpectedAccuracy(0.57, 0.07, measure="F1"), 0.5, "F1 about 57 % (±7)", "F1: about 57 % (±7)."),
        (ExpectedAccuracy(None), None, "too few labels to say", "Accuracy: too few labels to say."),
        (ExpectedAccuracy(None, measure="F1"), 0.5, "too few labels to say", "F1: too few labels to say."),
        (None, None, "accuracy 75 % (60–86), cross-validated", "Accuracy: 75 % (60–86), cross-validated."),
        (None, 0.5, "F1 50 %, cross-validated", "F1: 50 %, cross-validated."),
    ],
)
def test_figures_are_named(
    expected: ExpectedAccuracy | None, micro_f1: float | None, named: str, sentence: str
) -> None:
    made = build_manifest("v-1")
    made = replace(made, expected=expected, estimate=replace(made.estimate, micro_f1=micro_f1))
    assert (named_headline(made), headline_sentence(made)) == (named, sentence)
