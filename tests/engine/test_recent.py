"""Features are kept for some minutes, by encoder and text, within bounds."""

from __future__ import annotations

import pytest

from services.engine.loading import EncoderKey
from services.engine.recent import MAX_TEXTS, SECONDS, RecentFeatures
from tests.support.metrics import metric_growth

ENCODER, OTHER = EncoderKey("ab" * 32), EncoderKey("cd" * 32)


class Time:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def recent(time: Time) -> RecentFeatures:
    return RecentFeatures(time)


def compute(recent: RecentFeatures, *texts: str, encoder: EncoderKey = ENCODER, width: int = 4) -> list[int]:
    """Fill in and keep what is missing: the length of the text; return the rows that were missing."""
    known = recent.find(encoder, texts, width)
    for row in known.missing:
        known.features[row] = len(texts[row])
    recent.keep(known)
    assert [row[0] for row in known.features] == [len(text) for text in texts]
    return list(known.missing)


def test_known_texts_are_not_missing(recent: RecentFeatures) -> None:
    assert compute(recent, "a", "bb") == [0, 1]
    assert compute(recent, "bb", "ccc", "a") == [1]


def test_encoders_and_spellings_are_kept_apart(recent: RecentFeatures) -> None:
    compute(recent, "é")
    assert compute(recent, "é", encoder=OTHER) == [0]
    assert compute(recent, "e\u0301", " é", "\ud800") == [0, 1, 2], "NFD, a space, half a character"
    assert compute(recent, "é") == []


def test_features_expire(recent: RecentFeatures, time: Time) -> None:
    compute(recent, "a")
    time.now += SECONDS - 1
    assert compute(recent, "a", "bb") == [1], "a use does not keep it"
    time.now += 1
    assert compute(recent, "a", "bb") == [0]


def test_bytes_are_bounded(time: Time) -> None:
    recent = RecentFeatures(time, max_bytes=2_000)
    compute(recent, *(f"text {number}" for number in range(8)), width=100)
    assert recent._bytes <= 2_000
    assert compute(recent, "text 7", width=100) == []
    assert compute(recent, "text 0", width=100) == [0]


def test_large_requests_are_not_kept(recent: RecentFeatures) -> None:
    texts = [f"text {number}" for number in range(MAX_TEXTS + 1)]
    assert len(compute(recent, *texts)) == len(texts)
    assert compute(recent, *texts[:2]) == [0, 1]
    assert compute(recent) == []


def test_hits_are_counted(recent: RecentFeatures) -> None:
    hits, misses = (
        metric_growth("fitloop_engine_recent_texts_total", outcome=outcome) for outcome in ("hit", "miss")
    )
    compute(recent, "a", "bb")
    compute(recent, "bb")
    assert (hits(), misses()) == (1, 2)
