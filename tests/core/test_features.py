"""core.features: each text's features are found again by its key, whatever happened to other shards."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core import features
from services.core.features import FeatureStore, Keys, key_array, key_numbers
from services.core.labels import text_key
from services.core.labels.rows import text_key_number
from services.core.store.files import FileStore

DIGEST = "ab" * 32
PREFIX = f"projects/1-5/features/{DIGEST}/"
_BATCHES = st.lists(st.lists(st.integers(0, 40), max_size=12), max_size=8)


def _store(folder: str | Path, width: int = 4) -> FeatureStore:
    return FeatureStore(FileStore(Path(folder)), "1-5", DIGEST, width)


def _keys(*texts: object) -> Keys:
    return key_array(text_key(str(text)) for text in texts)


def _x(*values: float, width: int = 4) -> NDArray[np.float32]:
    return np.repeat(np.array(values, np.float32)[:, None], width, axis=1)


def _shards(store: FeatureStore) -> list[str]:
    return list(store.store.keys(PREFIX))


@settings(deadline=None, max_examples=60)
@given(_BATCHES, st.integers(1, 5), st.integers(2, 8))
def test_any_batches_are_found_again(batches: list[list[int]], small: int, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(features, "_MAX_SMALL", small)
        patch.setattr(features, "SHARD_ROWS", rows)
        store, expected = _store(folder), dict[int, float]()
        for number, batch in enumerate(batches):
            stored = store.append(_keys(*batch), _x(*(text + number for text in batch)))
            assert stored == len(set(batch))
            expected |= {text: text + number for text in batch}
        found = store.load()
        places = found.rows(_keys(*range(41)))
        assert {text: float(found.x[row, 0]) for text, row in enumerate(places) if row >= 0} == expected
        assert len(found) == len(expected)


def test_features_keep_the_precision_of_float16(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 384)).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    store = _store(tmp_path, 384)
    store.append(_keys(*range(50)), x)
    found = store.load()
    restored = found.x[found.rows(_keys(*range(50)))].astype(np.float32)
    assert np.abs(restored - x).max() < 2e-4
    cosines = (restored * x).sum(axis=1) / np.linalg.norm(restored, axis=1)
    assert cosines.min() > 0.999999


def test_features_beyond_float16_are_not_stored(tmp_path: Path) -> None:
    store = _store(tmp_path)
    assert store.append(_keys("a", "b", "c"), _x(1, 1e6, np.nan)) == 1
    assert store.load().rows(_keys("a", "b", "c")).tolist() == [0, -1, -1]


def test_nothing_stored_is_nothing_known(tmp_path: Path) -> None:
    store = _store(tmp_path)
    assert store.append(_keys(), _x()) == 0
    assert _shards(store) == []
    assert store.load().x.shape == (0, 4)
    assert store.load().rows(_keys("a")).tolist() == [-1]


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "of another width", "something else"])
def test_damaged_shard_is_deleted_and_others_are_read(tmp_path: Path, damage: str) -> None:
    store = _store(tmp_path)
    store.append(_keys("a"), _x(1))
    store.append(_keys("b"), _x(2))
    first, second = _shards(store)
    data = bytearray(store.store.read(first))
    data[-1] ^= 1
    if damage == "of another width":
        store.store.delete(first)
        FeatureStore(store.store, "1-5", DIGEST, 5).append(_keys("a"), _x(1, width=5))
    else:
        broken = {"truncated": bytes(data[:-3]), "flipped": bytes(data), "empty": b""}
        store.store.write(first, broken.get(damage, b'{"json": true}'))
    assert store.load().rows(_keys("a", "b")).tolist() == [-1, 0]
    assert _shards(store) == [second]
    store.append(_keys("a"), _x(3))  # computed again
    found = store.load()
    assert found.x[found.rows(_keys("a")), 0].tolist() == [3]


def test_many_small_shards_become_one(tmp_path: Path) -> None:
    store = _store(tmp_path)
    for text in range(20):
        store.append(_keys(text), _x(text))
    assert len(_shards(store)) <= 5
    found = store.load()
    assert found.x[found.rows(_keys(*range(20))), 0].tolist() == list(range(20))


def test_crash_in_a_merge_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(tmp_path)
    store.append(_keys("a"), _x(1))
    store.append(_keys("b"), _x(2))

    def fails(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "delete", fails)
        with pytest.raises(OSError):
            store.merge()
    assert len(_shards(store)) == 3
    assert len(store.load()) == 2
    assert store.merge() == 3
    assert len(_shards(store)) == 1


def test_full_shards_are_not_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "SHARD_ROWS", 8)
    store = _store(tmp_path)
    store.append(_keys(*range(19)), _x(*range(19)))
    assert len(_shards(store)) == 3
    assert store.merge() <= 1


def test_rows_of_no_use_are_dropped_once_they_are_most(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(features, "SHARD_ROWS", 8)
    store = _store(tmp_path, 64)
    store.append(_keys(*range(40)), _x(*range(40), width=64))
    assert store.prune(key_numbers(_keys(*range(20)))) == 0
    assert store.prune(key_numbers(_keys(*range(5), "unknown"))) == 35
    found = store.load()
    assert found.x[found.rows(_keys(*range(5))), 0].tolist() == list(range(5))
    assert len(found) == 5


def test_key_numbers_are_those_of_the_label_index() -> None:
    texts = ["a", "b", "c"]
    keys = _keys(*texts)
    numbers = np.array([text_key_number(text_key(text)) for text in texts], np.uint64)
    assert key_numbers(keys).tolist() == numbers.tolist()


def test_number_of_a_key_is_never_that_of_no_text() -> None:
    assert key_numbers(np.zeros((1, 16), np.uint8)).tolist() == [1]


def test_keys_are_the_first_half_of_text_keys() -> None:
    whole = hashlib.sha256(b"any").hexdigest()
    assert key_array([whole, whole]).tobytes().hex() == whole[:32] * 2
    assert key_array([]).shape == (0, 16)
