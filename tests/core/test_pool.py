"""core.pool: the unlabelled tasks of a project, and a version's predictions for them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core import arrays, pool
from services.core.domain import LabelSpace, Manifest
from services.core.errors import CorruptVersion
from services.core.features import Keys, key_array, key_numbers
from services.core.labels import text_key
from services.core.pool import (
    EMPTY,
    MAX_BYTES,
    PREDICTIONS,
    Pool,
    PoolPredictions,
    PoolStore,
    pool_predictions,
    text_source,
)
from services.core.registry import Registry
from services.core.store.files import FileStore
from services.engine.compute import Scores, softmax
from tests.support.manifests import build_manifest

SPACE = LabelSpace("mood", "text", "$text", ("good", "bad"))
_STEPS = st.lists(st.tuples(st.booleans(), st.lists(st.integers(1, 15), max_size=6)), max_size=10)


def _keys(*texts: object) -> Keys:
    return key_array(text_key(str(text)) for text in texts)


def _ids(*tasks: int) -> NDArray[np.int64]:
    return np.array(tasks, np.int64)


@given(_STEPS)
def test_any_changes_give_the_tasks_that_are_left(steps: list[tuple[bool, list[int]]]) -> None:
    found, expected = EMPTY, dict[int, str]()
    for number, (removes, tasks) in enumerate(steps):
        if removes:
            found = found.without(_ids(*tasks))
            expected = {task: text for task, text in expected.items() if task not in tasks}
        else:
            texts = [f"{task} {number}" for task in tasks]
            found = found.merge(_ids(*tasks), _keys(*texts))
            expected |= dict(zip(tasks, texts, strict=True))
    assert found.tasks.tolist() == sorted(expected)
    assert found.keys.tobytes() == _keys(*(expected[task] for task in sorted(expected))).tobytes()


def test_task_without_a_text_has_no_key() -> None:
    found = EMPTY.merge(_ids(1, 2), np.vstack([_keys("a"), np.zeros((1, 16), np.uint8)]))
    assert found.has_text.tolist() == [True, False]


def test_pool_keeps_the_newest_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "MAX_TASKS", 3)
    found = EMPTY.merge(_ids(5, 1, 9, 2), _keys(5, 1, 9, 2)).merge(_ids(7), _keys(7))
    assert found.tasks.tolist() == [5, 7, 9]
    assert found.keys.tobytes() == _keys(5, 7, 9).tobytes()


def test_pool_survives_its_file(tmp_path: Path) -> None:
    stored = PoolStore(FileStore(tmp_path), "1-5")
    assert len(stored.load()) == 0
    written = Pool(_ids(3, 8), _keys("a", "b"), "of", "2026-11-29T10:00:00.5Z", "later", 7, 12)
    stored.write(written)
    found = stored.load()
    assert found.tasks.tolist() == [3, 8]
    assert found.keys.tobytes() == _keys("a", "b").tobytes()
    assert asdict(found) | {"tasks": 0, "keys": 0} == asdict(written) | {"tasks": 0, "keys": 0}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        arrays.dump({"task": _ids(2, 1), "key": _keys(1, 2)}),
        arrays.dump({"task": _ids(1, 2), "key": _keys(1)}),
    ],
    ids=["empty", "json", "unsorted", "of other lengths"],
)
def test_unreadable_pool_starts_anew(tmp_path: Path, data: bytes) -> None:
    store = FileStore(tmp_path)
    store.write("projects/1-5/pool.safetensors", data)
    found = PoolStore(store, "1-5").load()
    assert (len(found), found.cursor) == (0, "")


def test_only_what_the_text_depends_on_starts_the_pool_anew() -> None:
    same = replace(SPACE, labels=("other",), from_name="topic")
    assert text_source(same) == text_source(SPACE)
    for other in (
        replace(SPACE, text_value="$body"),
        replace(SPACE, text_tag="HyperText"),
        replace(SPACE, text_attributes={"encoding": "base64"}),
    ):
        assert text_source(other) != text_source(SPACE)


@given(st.integers(1, 5), st.integers(0, 30), st.integers(0, 2**32 - 1))
def test_predictions_are_those_of_the_predictor(labels: int, tasks: int, seed: int) -> None:
    logits = np.random.default_rng(seed).normal(size=(tasks, labels)).astype(np.float32)
    scores = Scores(tuple(map(str, range(labels))), softmax(logits))
    found = PoolPredictions.of(np.arange(tasks), _keys(*range(tasks)), scores.probabilities)
    assert sorted(found.tasks.tolist()) == list(range(tasks))
    assert (np.diff(found.scores) >= 0).all()
    for row, task in enumerate(found.tasks.tolist()):
        label, p1, score = scores.best(task)
        assert str(found.labels[row]) == label
        assert float(found.p1[row]) == pytest.approx(p1)
        assert float(found.scores[row]) == pytest.approx(score)
        assert found.texts[row] == key_numbers(_keys(task))[0]


def test_rows_that_are_no_probabilities_are_left_out() -> None:
    rows = np.array([[0.9, 0.1], [np.nan, 1], [2, 0], [-1, 0.5], [0, 0]], np.float32)
    assert PoolPredictions.of(_ids(1, 2, 3, 4, 5), _keys(*range(5)), rows).tasks.tolist() == [1]


def _published(folder: Path, data: bytes | None) -> tuple[Registry, Manifest]:
    registry, made = Registry(FileStore(folder / "store")), folder / "made"
    made.mkdir()
    (made / "report.json").write_text("{}")
    if data is not None:
        (made / PREDICTIONS).write_bytes(data)
    return registry, registry.publish(made, build_manifest("v1"))


def test_predictions_are_read_from_the_version(tmp_path: Path) -> None:
    written = PoolPredictions.of(_ids(4, 2), _keys("a", "b"), np.array([[0.9, 0.1], [0.4, 0.6]], np.float32))
    written.write(tmp_path)
    registry, manifest = _published(tmp_path, (tmp_path / PREDICTIONS).read_bytes())
    found = pool_predictions(registry, manifest)
    assert found is not None
    assert found.tasks.tolist() == [2, 4]
    assert found.labels.tolist() == [1, 0]
    assert found.p1.tolist() == pytest.approx([0.6, 0.9])
    assert found.texts.tolist() == key_numbers(_keys("b", "a")).tolist()


def test_version_without_predictions_has_none(tmp_path: Path) -> None:
    assert pool_predictions(*_published(tmp_path, None)) is None


def test_label_that_the_version_lacks_is_damage(tmp_path: Path) -> None:
    PoolPredictions.of(_ids(4), _keys("a"), np.eye(9, dtype=np.float32)[8:]).write(tmp_path)
    registry, manifest = _published(tmp_path, (tmp_path / PREDICTIONS).read_bytes())
    with pytest.raises(CorruptVersion, match="not a list of predictions"):
        pool_predictions(registry, manifest)


def test_predictions_of_several_labels_are_read_back(tmp_path: Path) -> None:
    rows = np.array([[0.9, 0.1], [0.4, 0.6], [0.1, 0.2], [np.nan, 0.5]], np.float32)
    thresholds, scores = np.array([0.3, 0.5], np.float32), np.array([0.8, 0.6, 0.7, 0.1], np.float32)
    written = PoolPredictions.of_several(_ids(4, 2, 9, 1), _keys(*range(4)), rows, thresholds, scores)
    written.write(tmp_path)
    registry, manifest = _published(tmp_path, (tmp_path / PREDICTIONS).read_bytes())
    found = pool_predictions(registry, replace(manifest, multi_label=True))
    assert found is not None
    assert found.chosen is not None
    assert found.chosen.shape == (3, 1)
    assert found.tasks.tolist() == [2, 9, 4]
    assert [found.chosen_at(row) for row in range(3)] == [[0, 1], [], [0]]
    assert found.p1.tolist() == pytest.approx([0.5, 0, 0.9])
    assert found.scores.tolist() == pytest.approx([0.6, 0.7, 0.8])


def test_sets_that_do_not_fit_the_labels_are_damage(tmp_path: Path) -> None:
    rows = np.full((1, 20), 0.5, np.float32)
    written = PoolPredictions.of_several(_ids(4), _keys("a"), rows, rows[0], rows[:, 0])
    replace(written, labels=np.zeros(1, np.int32)).write(tmp_path)
    registry, manifest = _published(tmp_path, (tmp_path / PREDICTIONS).read_bytes())
    with pytest.raises(CorruptVersion, match="not a list of predictions"):
        pool_predictions(registry, replace(manifest, multi_label=True))


@pytest.mark.parametrize("bits", [[[0b1010_0000]], [[0b1001_0000, 0]], [[0b1000_0001]]])
def test_bits_beyond_the_labels_are_damage(tmp_path: Path, bits: list[list[int]]) -> None:
    rows = np.full((1, 2), 0.5, np.float32)
    written = PoolPredictions.of_several(_ids(4), _keys("a"), rows, rows[0], rows[:, 0])
    replace(written, chosen=np.array(bits, np.uint8)).write(tmp_path)
    registry, manifest = _published(tmp_path, (tmp_path / PREDICTIONS).read_bytes())
    with pytest.raises(CorruptVersion, match="not a list of predictions"):
        pool_predictions(registry, replace(manifest, multi_label=True))


def test_predictions_of_impossible_size_are_not_read(tmp_path: Path) -> None:
    registry, manifest = _published(tmp_path, b"far too much")
    entry = replace(manifest.files[PREDICTIONS], size=MAX_BYTES + 1)
    with pytest.raises(CorruptVersion, match=f"more than {MAX_BYTES}"):
        pool_predictions(registry, replace(manifest, files={PREDICTIONS: entry}))


@given(st.integers(1, 20), st.integers(1, 30), st.booleans(), st.integers(0, 2**32 - 1))
def test_parts_joined_are_the_whole(labels: int, tasks: int, several: bool, seed: int) -> None:
    probabilities = softmax(np.random.default_rng(seed).normal(size=(tasks, labels)).astype(np.float32))
    thresholds = np.full(labels, 1 / labels, np.float32)

    def predict(part: slice) -> PoolPredictions:
        ids, keys, rows = np.arange(tasks)[part], _keys(*range(tasks))[part], probabilities[part]
        if several:
            return PoolPredictions.of_several(ids, keys, rows, thresholds, rows[:, 0])
        return PoolPredictions.of(ids, keys, rows)

    whole = predict(slice(None))
    joined = PoolPredictions.join([predict(slice(start, start + 7)) for start in range(0, tasks, 7)])
    for name in ("tasks", "labels", "p1", "scores", "texts", "chosen"):
        np.testing.assert_array_equal(getattr(joined, name), getattr(whole, name))
