"""Which texts are read, and how their scores are answered to Label Studio."""

from __future__ import annotations

import numpy as np
import pytest

from services.adapter.suggestions import MAX_TEXT_BYTES, build_prediction, readable_text
from services.core.domain import LabelSpace
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
    assert build_prediction(SPACE, _scores(*row), 0, "v") is None


def test_a_label_that_the_config_has_no_more_is_not_suggested() -> None:
    assert build_prediction(SPACE, _scores(0.1, 0.9, labels=("A", "Gone")), 0, "v") is None


def test_a_nested_choice_is_suggested_as_its_path() -> None:
    space = LabelSpace("s", "t", "$text", ("A", "B"), paths=(("Top", "A"), ("B",)))
    found = build_prediction(space, _scores(0.75, 0.25), 0, "v")
    assert found is not None
    assert found["result"][0]["value"] == {"choices": [["Top", "A"]]}


def test_a_single_label_has_score_one() -> None:
    found = build_prediction(LabelSpace("s", "t", "$text", ("A",)), _scores(1.0, labels=("A",)), 0, "v")
    assert found is not None
    assert found["score"] == 1.0
