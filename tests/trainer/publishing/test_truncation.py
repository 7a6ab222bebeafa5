"""Texts that the model truncates are counted."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from services.core.domain import Truncation
from services.engine.tokenise import configure_tokenizer, encode
from services.trainer.publishing.truncation import measure_lengths, summarise_truncation
from tests.support.base_models import build_tiny_tokenizer

WORD = "order "


def measure(tokenizer: Tokenizer, texts: list[str], most: int) -> Truncation:
    return summarise_truncation(measure_lengths(tokenizer, texts), most)


@pytest.mark.parametrize(
    ("words", "cut"), [((1, 2, 3), 0), ((14,), 0), ((15,), 1), ((40, 40, 2), 2), ((100_000,), 1), ((), 0)]
)
def test_counts_truncated_texts(words: tuple[int, ...], cut: int) -> None:
    tokenizer = configure_tokenizer(build_tiny_tokenizer(starts_with_pad=True), 16)
    texts = [WORD * count for count in words]
    own = len(encode(tokenizer, [""])[0])  # what begins and ends a text
    assert own == 2
    found = measure(tokenizer, texts, 32)
    assert (found.texts, found.cut, found.max_length, found.most) == (len(words), cut, 16, 32)
    if cut:
        assert found.longest == max(words) + own


def test_truncation_cost_is_limited_by_the_model() -> None:
    tokenizer = configure_tokenizer(build_tiny_tokenizer(starts_with_pad=True), 16)
    assert measure(tokenizer, [WORD * 98], 32).cost == 2.0
    assert measure(tokenizer, [WORD * 98], 0).cost == pytest.approx(100 / 16, abs=0.01)
    assert measure(tokenizer, [WORD], 32).cost == 1.0


def test_counting_leaves_the_tokenizer_unchanged() -> None:
    tokenizer = configure_tokenizer(build_tiny_tokenizer(starts_with_pad=True), 16)
    measure(tokenizer, [WORD * 98], 0)
    assert len(encode(tokenizer, [WORD * 98])[0]) == 16


def test_truncated_texts_are_known_with_their_lengths() -> None:
    tokenizer = configure_tokenizer(build_tiny_tokenizer(starts_with_pad=True), 16)
    found = measure_lengths(tokenizer, [WORD, WORD * 40, WORD * 14, WORD * 30])
    assert found.truncated == {1: 42, 3: 32}
    assert (list(found.read), found.limit) == ([3, 16, 16, 16], 16)
