"""data.split: stateless, equal for equal texts, with the documented shares."""

from __future__ import annotations

import hashlib
import random
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.labels import text_key
from services.trainer.data.split import (
    FOLDS,
    fold_of,
    holdout_percent,
    is_in_holdout,
    split_key,
    split_keys,
)

KEYS = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")


def test_the_key_is_the_documented_hash() -> None:
    assert split_key("Where IS my order, no. 7?") == hashlib.sha256(b"fitloop1whereismyorderno7").hexdigest()


@given(st.text())
def test_any_text_has_a_key_of_64_hex_digits(text: str) -> None:
    assert len(bytes.fromhex(text_key(text))) == len(bytes.fromhex(split_key(text))) == 32


def test_half_a_surrogate_pair_has_a_key() -> None:
    assert split_key("a\ud800b") == split_key("ab")


@given(
    st.text(alphabet="abcdefghijklmnopqrstuvwxyz0123456789äéñ漢字", min_size=1),
    st.sampled_from([" ", "  \n", "!", "…", "'-", "🙂"]),
)
def test_near_equal_texts_share_a_split_key(text: str, noise: str) -> None:
    """Case, spaces, punctuation and full-width forms make no other text."""
    other = noise + noise.join(text.upper()) + noise
    assert split_key(other) == split_key(text)
    assert split_key("".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)) == split_key(text)


@pytest.mark.parametrize("text", ["İstanbul'da", "ΰ", "ok ❤\ufe0f", "a\u0336b", "Straße"])
def test_split_keys_are_those_of_release_0_1_0(text: str) -> None:
    letters = "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))
    assert split_key(text) == hashlib.sha256(f"fitloop1{letters}".encode()).hexdigest()


@pytest.mark.parametrize(("one", "other"), [("दिन", "दान"), ("किताब", "कताब"), ("กิน", "กัน"), ("שִׁיר", "שַׁיר"), ("👍", "👎"), ("???", ":)")])  # fmt: skip
def test_vowel_signs_and_symbols_have_split_keys(one: str, other: str) -> None:
    assert split_key(one) != split_key(other)


@given(st.text(), st.text())
def test_text_keys_are_equal_only_for_equal_texts(one: str, other: str) -> None:
    same = [unicodedata.normalize("NFC", text.strip()) for text in (one, other)]
    assert (text_key(one) == text_key(other)) is (same[0] == same[1])
    assert text_key(f" {unicodedata.normalize('NFD', one)}\n") == text_key(one)


def test_texts_of_symbols_are_split_as_well() -> None:
    texts = [f"ok {chr(0x1F600 + number)}" for number in range(96)]
    assert len({fold_of(key) for key in split_keys(texts)}) == FOLDS
    assert split_keys(["a", "b", "c", "d", "e", "E!"])[-1] == split_key("e")


@given(KEYS, st.integers(1, 10_000), st.integers(1, 10_000))
def test_more_texts_move_none_below_10_000(key: str, before: int, after: int) -> None:
    assert is_in_holdout(key, before) == is_in_holdout(key, after)


@given(KEYS, st.integers(1, 100_000), st.integers(0, 100_000))
def test_no_text_ever_enters_the_holdout(key: str, texts: int, more: int) -> None:
    assert is_in_holdout(key, texts) or not is_in_holdout(key, texts + more)


@pytest.mark.parametrize(
    ("texts", "percent"), [(1, 20), (10_000, 20), (10_001, 10), (40_000, 10), (40_001, 5), (10**7, 5)]
)
def test_holdout_share_falls_with_the_number_of_texts(texts: int, percent: int) -> None:
    assert holdout_percent(texts) == percent
    edge = (percent * 2**256) // 100
    assert is_in_holdout(f"{edge - 1:064x}", texts)
    assert not is_in_holdout(f"{edge + 1:064x}", texts)


@given(st.integers(0, 1_000))
@settings(max_examples=20)
def test_holdout_and_folds_have_their_share(seed: int) -> None:
    """Within five standard deviations of the binomial."""
    numbers = random.Random(seed)
    keys = [split_key(f"{numbers.random()}") for _ in range(500)]
    held = sum(is_in_holdout(key, len(keys)) for key in keys)
    assert abs(held - 100) < 5 * (500 * 0.2 * 0.8) ** 0.5
    for fold in range(FOLDS):
        assert abs(sum(fold_of(key) == fold for key in keys) - 50) < 5 * (500 * 0.1 * 0.9) ** 0.5


@given(KEYS)
def test_a_fold_is_one_of_ten(key: str) -> None:
    assert fold_of(key) in range(FOLDS)


def test_folds_split_the_holdout_as_well() -> None:
    held = [key for key in (split_key(str(number)) for number in range(3_000)) if is_in_holdout(key, 3_000)]
    shares = [sum(fold_of(key) == fold for key in held) / len(held) for fold in range(FOLDS)]
    assert min(shares) > 0.05
