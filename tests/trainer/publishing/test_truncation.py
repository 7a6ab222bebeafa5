"""Texts that the model truncates are counted."""

from __future__ import annotations

import pytest

from services.engine.tokenise import configure_tokenizer, encode
from services.trainer.publishing import measure_truncation
from tests.support.base_models import build_tiny_tokenizer

WORD = "order "


@pytest.mark.parametrize(
    ("words", "cut"), [((1, 2, 3), 0), ((14,), 0), ((15,), 1), ((40, 40, 2), 2), ((100_000,), 1), ((), 0)]
)
def test_counts_truncated_texts(words: tuple[int, ...], cut: int) -> None:
    tokenizer = configure_tokenizer(build_tiny_tokenizer(starts_with_pad=True), 16)
    texts = [WORD * count for count in words]
    own = len(encode(tokenizer, [""])[0])  # what begins and ends a text
    assert own == 2
    found = measure_truncation(tokenizer, texts, 32)
    assert (found.texts, found.cut, found.max_length, found.most) == (len(words), cut, 16, 32)
    if cut:
        assert found.longest == max(words) + own


def test_truncation_cost_is_limited_by_the_model() -> None:
    tokenizer = configure_tokenizer(build_tiny_tokenizer(starts_with_pad=True), 16)
    assert measure_truncation(tokenizer, [WORD * 98], 32).cost == 2.0
    assert measure_truncation(tokenizer, [WORD * 98], 0).cost == pytest.approx(100 / 16, abs=0.01)
    assert measure_truncation(tokenizer, [WORD], 32).cost == 1.0


def test_counting_leaves_the_tokenizer_unchanged() -> None:
    tokenizer = configure_tokenizer(build_tiny_tokenizer(starts_with_pad=True), 16)
    measure_truncation(tokenizer, [WORD * 98], 0)
    assert len(encode(tokenizer, [WORD * 98])[0]) == 16
