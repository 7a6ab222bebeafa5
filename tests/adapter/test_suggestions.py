"""Which texts are read, and how their scores are answered to Label Studio."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.suggestions import build_prediction, conceal, is_blind
from services.core.domain import LabelSpace
from services.core.labels.readable import MAX_TEXT_BYTES, readable_text
from services.engine.compute import Scores

SPACE = LabelSpace("s", "t", "$text", ("A", "B"))


def _scores(*row: float, labels: tuple[str, ...] = ("A", "B")) -> Scores:
    return Scores(labels, np.array([row], dtype=np.float32))


@pytest.mark.parametrize("text", ["x" * MAX_TEXT_BYTES, "ä" * (MAX_TEXT_BYTES // 2), "a\tb\r\nc", "退款在哪里", "👨‍👩‍👧‍👦", "👍", "???", "می‌خواهم", "\u200f\u05e9\u05dc\u200e", "क्‍ष", "so\u00adft", "\ufeffBOM", "❤\ufe0f", "\ue000"])  # fmt: skip
def test_what_a_person_can_read_is_read(text: str) -> None:
    assert readable_text(SPACE, {"data": {"text": text}}) == text


@pytest.mark.parametrize("text", ["x" * (MAX_TEXT_BYTES + 1), "ä" * (MAX_TEXT_BYTES // 2 + 1), "a\0b", "\ud800", "\ufffd\ufffdPK", "\x01\x02PK", "\u0378\u0379x", "\u200b"])  # fmt: skip
def test_what_nobody_can_read_is_not(text: str) -> None:
    assert readable_text(SPACE, {"data": {"text": text}}) is None


@pytest.mark.parametrize("row", [(float("nan"), 0.5), (-0.1, 1.1), (0.0, 0.0), (2.0, 0.0)])
def test_figures_that_are_no_probabilities_suggest_nothing(row: tuple[float, float]) -> None:
    assert build_prediction(SPACE, _scores(*row), 0, "v", is_evaluated=True) is None


def test_a_label_that_the_config_has_no_more_is_not_suggested() -> None:
    assert build_prediction(SPACE, _scores(0.1, 0.9, labels=("A", "Gone")), 0, "v", is_evaluated=True) is None


def test_a_nested_choice_is_suggested_as_its_path() -> None:
    space = LabelSpace("s", "t", "$text", ("A", "B"), paths=(("Top", "A"), ("B",)))
    found = build_prediction(space, _scores(0.75, 0.25), 0, "v", is_evaluated=True)
    assert found is not None
    assert found["result"][0]["value"] == {"choices": [["Top", "A"]]}


def test_a_single_label_has_score_one() -> None:
    found = build_prediction(
        LabelSpace("s", "t", "$text", ("A",)), _scores(1.0, labels=("A",)), 0, "v", is_evaluated=True
    )
    assert found is not None
    assert found["score"] == 1.0


@given(st.text(), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_share_makes_more_texts_blind(text: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not is_blind(text, 0.0)
    assert is_blind(text, large) or not is_blind(text, small)
    assert is_blind(f" {text}\n", large) == is_blind(text, large)


def test_the_share_of_texts_is_blind() -> None:
    found = sum(is_blind(f"text number {number}", 0.05) for number in range(20_000))
    assert 900 <= found <= 1100


def test_a_concealed_prediction_keeps_version_and_score() -> None:
    shown = build_prediction(SPACE, _scores(0.75, 0.25), 0, "v", is_evaluated=True)
    assert shown is not None
    assert conceal(shown) == {"result": [], "score": pytest.approx(0.75), "model_version": "v"}
    assert shown["result"]


def test_a_version_that_was_not_evaluated_shows_no_probability() -> None:
    found = build_prediction(SPACE, _scores(0.75, 0.25), 0, "v", is_evaluated=False)
    assert found is not None
    (region,) = found["result"]
    assert region["value"] == {"choices": ["A"]}
    assert "score" not in region
    assert found["score"] == pytest.approx(0.75)
    several = build_prediction(SEVERAL, _several(0.7, 0.3, 0.8), 0, "v", is_evaluated=False)
    assert several is not None
    assert several["result"][0]["value"] == {"choices": ["A", "B"]}
    assert "score" not in several["result"][0]
    assert several["score"] > 0


SEVERAL = LabelSpace("s", "t", "$text", ("A", "B", "C"), multiple=True)


def _several(*row: float, labels: tuple[str, ...] = ("A", "B", "C")) -> Scores:
    return Scores(labels, np.array([row], np.float32), np.array([0.5, 0.2, 0.9], np.float32))


@pytest.mark.parametrize(
    ("row", "choices", "score"),
    [((0.7, 0.3, 0.8), ["A", "B"], 0.5), ((0.5, 0.1, 0.9), ["A", "C"], 0.7)],
)
def test_several_labels_are_suggested_in_one_region(
    row: tuple[float, ...], choices: list[str], score: float
) -> None:
    found = build_prediction(SEVERAL, _several(*row), 0, "v", is_evaluated=True)
    assert found is not None
    (region,) = found["result"]
    assert region["value"] == {"choices": choices}
    assert region["score"] == pytest.approx(score)
    entropy = -sum(p * np.log2(p) + (1 - p) * np.log2(1 - p) for p in row) / 3
    assert found["score"] == pytest.approx(1 - entropy, abs=1e-5)


def test_no_label_is_a_suggestion_without_a_region() -> None:
    found = build_prediction(SEVERAL, _several(0.1, 0.1, 0.1), 0, "v", is_evaluated=True)
    assert found is not None
    assert (found["result"], found["model_version"]) == ([], "v")


def test_labels_that_the_config_has_no_more_are_left_out() -> None:
    found = build_prediction(
        SEVERAL, _several(0.9, 0.9, 0.1, labels=("A", "Gone", "C")), 0, "v", is_evaluated=True
    )
    assert found is not None
    assert found["result"][0]["value"] == {"choices": ["A"]}
    assert (
        build_prediction(
            SEVERAL, _several(0.1, 0.9, 0.1, labels=("A", "Gone", "C")), 0, "v", is_evaluated=True
        )
        is None
    )


def test_several_labels_are_nested_paths() -> None:
    space = LabelSpace("s", "t", "$text", ("A", "B"), paths=(("Top", "A"), ("B",)), multiple=True)
    scores = Scores(("A", "B"), np.array([[0.9, 0.8]], np.float32), np.array([0.5, 0.5], np.float32))
    found = build_prediction(space, scores, 0, "v", is_evaluated=True)
    assert found is not None
    assert found["result"][0]["value"] == {"choices": [["Top", "A"], ["B"]]}


def test_a_control_that_takes_one_label_gets_the_best() -> None:
    """After the label config was changed, until a new version is served."""
    space = LabelSpace("s", "t", "$text", ("A", "B", "C"))
    found = build_prediction(space, _several(0.7, 0.9, 0.8), 0, "v", is_evaluated=True)
    assert found is not None
    assert found["result"][0]["value"] == {"choices": ["B"]}
