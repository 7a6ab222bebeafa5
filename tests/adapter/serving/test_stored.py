"""Stored predictions are read from the version's folder, verified and bounded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.serving.stored import StoredPredictions, stored_predictions
from services.adapter.suggestions import is_blind
from services.core import pool
from services.core.domain import Method
from services.core.errors import CorruptVersion, NotFound
from services.core.features import key_array
from services.core.labels import text_key
from services.core.pool import PREDICTIONS, PoolPredictions
from services.core.registry import Registry
from services.core.store.files import FileStore
from tests.support.fakes import LABELS, SPACE
from tests.support.manifests import build_manifest


def predictions_of(texts: dict[int, str]) -> PoolPredictions:
    probabilities = np.linspace((0.5, 0.4, 0.1), (0.9, 0.1, 0.0), len(texts), dtype=np.float32)
    return PoolPredictions.of(
        np.array(list(texts), np.int64), key_array(map(text_key, texts.values())), probabilities
    )


def test_stored_suggestions_from_label_names_show_no_probability(tmp_path: Path) -> None:
    registry = Registry(FileStore(tmp_path / "bucket"))
    predictions_of({7: "seven"}).write(_folder(tmp_path))
    manifest = replace(build_manifest("support-1", "5-1", LABELS), method=Method.ZERO_SHOT)
    registry.publish(_folder(tmp_path), manifest)
    found = stored_predictions(registry, "5-1", "support-1")
    assert found
    ((answer,), _) = found.answer(SPACE, tasks_of({7: "seven"}))
    assert "score" not in answer["result"][0]
    assert answer["score"] == pytest.approx(0.5 / 0.9)


def tasks_of(texts: dict[int, str]) -> list[dict[str, object]]:
    return [{"id": task, "data": {"text": text}} for task, text in texts.items()]


def _folder(tmp_path: Path) -> Path:
    found = tmp_path / "version"
    found.mkdir(exist_ok=True)
    return found


@pytest.fixture
def published(tmp_path: Path) -> Registry:
    registry = Registry(FileStore(tmp_path / "bucket"))
    predictions_of({7: "seven", 3: "three"}).write(_folder(tmp_path))
    registry.publish(_folder(tmp_path), build_manifest("support-1", "5-1", LABELS))
    return registry


def test_predictions_of_a_version_are_read(published: Registry) -> None:
    key = "5-1"
    found = stored_predictions(published, key, "support-1")
    assert found
    assert (len(found), found.tasks(0, 9), found.labels) == (2, [7, 3], LABELS)
    known, unknown = found.answer(SPACE, tasks_of({3: "three", 7: " seven ", 9: "nine", 4: ""}))
    assert [(one["task"], one["model_version"]) for one in known] == [(3, "support-1"), (7, "support-1")]
    assert known[0]["score"] == pytest.approx(0.9)
    assert unknown == [(9, "nine")]


def test_version_without_the_file_has_none(tmp_path: Path) -> None:
    registry = Registry(FileStore(tmp_path / "bucket"))
    registry.publish(_folder(tmp_path), build_manifest("support-1"))
    assert stored_predictions(registry, "5-1", "support-1") is None


def test_file_without_tasks_is_none(tmp_path: Path) -> None:
    registry = Registry(FileStore(tmp_path / "bucket"))
    predictions_of({}).write(_folder(tmp_path))
    registry.publish(_folder(tmp_path), build_manifest("support-1", "5-1", LABELS))
    assert stored_predictions(registry, "5-1", "support-1") is None


def test_unknown_version_is_not_found(published: Registry) -> None:
    with pytest.raises(NotFound):
        stored_predictions(published, "5-1", "support-2")


def test_changed_file_is_refused(published: Registry) -> None:
    key = f"projects/5-1/versions/support-1/{PREDICTIONS}"
    data = bytearray(published.store.read(key))
    data[-1] ^= 1
    published.store.write(key, bytes(data))
    with pytest.raises(CorruptVersion, match="differs from its manifest"):
        stored_predictions(published, "5-1", "support-1")


def test_huge_file_is_refused_unread(published: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_BYTES", 100)
    published.store.delete(f"projects/5-1/versions/support-1/{PREDICTIONS}")
    with pytest.raises(CorruptVersion, match="more than 100"):
        stored_predictions(published, "5-1", "support-1")


def test_impossible_numbers_are_computed_again() -> None:
    found = predictions_of({1: "one", 2: "two", 3: "three"})
    broken = replace(
        found,
        p1=np.array([np.nan, 0.5, 0.5], np.float32),
        scores=np.array([0.5, np.inf, 0.5], np.float32),
    )
    known, unknown = StoredPredictions("v", LABELS, broken).answer(
        SPACE, tasks_of({1: "one", 2: "two", 3: "three"})
    )
    assert [one["task"] for one in known] == [3]
    assert [task for task, _ in unknown] == [1, 2]


@given(
    st.dictionaries(st.integers(1, 10**12), st.text("abc", min_size=1, max_size=3), min_size=1, max_size=30),
    st.dictionaries(st.integers(1, 10**12), st.text("abc", min_size=1, max_size=3), max_size=30),
)
def test_every_task_is_answered_or_unknown(seen: dict[int, str], imported: dict[int, str]) -> None:
    found = StoredPredictions("v", LABELS, predictions_of(seen))
    now = {**seen, **imported}
    known, unknown = found.answer(SPACE, tasks_of(now))
    assert {one["task"] for one in known} == {task for task in now if seen.get(task) == now[task]}
    assert {task for task, _ in unknown} == {task for task in now if seen.get(task) != now[task]}


def test_predictions_of_blind_texts_are_concealed() -> None:
    texts = {number: f"text {number}" for number in range(1, 40)}
    found = StoredPredictions("v", LABELS, predictions_of(texts))
    shown, _ = found.answer(SPACE, tasks_of(texts))
    half, _ = found.answer(SPACE, tasks_of(texts), 0.5)
    assert [one["task"] for one in half if not one["result"]] == [
        task for task, text in texts.items() if is_blind(text, 0.5)
    ]
    assert [one["score"] for one in half] == [one["score"] for one in shown]
    assert all(one["result"] for one in shown)


def test_several_labels_are_answered_together() -> None:
    texts = {1: "one", 2: "two", 3: "three"}
    rows = np.array([[0.9, 0.8, 0.1], [0.1, 0.1, 0.1], [0.1, 0.1, 0.7]], np.float32)
    known = PoolPredictions.of_several(
        np.array(list(texts), np.int64),
        key_array(map(text_key, texts.values())),
        rows,
        np.full(3, 0.5, np.float32),
        np.array([0.1, 0.2, 0.3], np.float32),
    )
    space = replace(SPACE, multiple=True)
    answered, unknown = StoredPredictions("v", LABELS, known).answer(space, tasks_of(texts))
    chosen = [region["value"]["choices"] for one in answered for region in one["result"]]
    assert chosen == [list(LABELS[:2]), [LABELS[2]]]
    assert [(one["task"], len(one["result"])) for one in answered] == [(1, 1), (2, 0), (3, 1)]
    assert unknown == []
