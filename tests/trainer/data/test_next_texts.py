"""data.next_texts: texts that are labelled next are uncertain and differ; the column of scores stays what it was."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.core.features import Features, key_array
from services.core.pool import Pool, PoolPredictions
from services.trainer.data.next_texts import far_apart, spread

D = 4


def _pool(size: int, seed: int = 0, clusters: int = 3) -> tuple[PoolPredictions, Features, Pool]:
    random = np.random.default_rng(seed)
    keys = key_array(f"{number:016x}" * 4 for number in range(1, size + 1))
    x = (10 * np.eye(D)[np.arange(size) % clusters] + random.normal(size=(size, D))).astype(np.float16)
    p1 = np.linspace(0.5, 1, size, dtype=np.float32)
    tasks = np.arange(1, size + 1, dtype=np.int64)
    predictions = PoolPredictions.of(tasks, keys, np.stack([p1, 1 - p1], axis=1))
    return predictions, Features.of(keys, x), Pool(tasks, keys)


def test_first_texts_come_from_different_clusters() -> None:
    predictions, features, pool = _pool(400)
    found = spread(predictions, features, pool, seed=1, batch=3)
    assert found.tasks[:3].tolist() != [1, 2, 3]
    assert {int(task - 1) % 3 for task in found.tasks[:3]} == {0, 1, 2}


@given(st.integers(0, 9), st.integers(1, 30))
def test_each_text_is_of_five_more_of_the_most_uncertain(seed: int, number: int) -> None:
    rows = np.random.default_rng(seed).normal(size=(200, D))
    picked = far_apart(rows, number, seed)
    assert len(set(picked.tolist())) == number
    assert (picked < 5 * np.arange(1, number + 1)).all()
    assert far_apart(rows, 2 * number, seed)[:number].tolist() == picked.tolist()


@given(st.integers(0, 60), st.integers(0, 5), st.integers(1, 8))
def test_tasks_keep_answers_and_column_its_scores(size: int, seed: int, batch: int) -> None:
    before, features, pool = _pool(size, seed)
    after = spread(before, features, pool, seed, batch)
    assert sorted(after.tasks.tolist()) == sorted(before.tasks.tolist())
    np.testing.assert_allclose(after.scores, before.scores, atol=1e-6)
    place = {int(task): row for row, task in enumerate(before.tasks)}
    rows = [place[int(task)] for task in after.tasks]
    for name in ("labels", "p1", "texts"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name)[rows])
    assert spread(before, features, pool, seed, batch).tasks.tolist() == after.tasks.tolist()


def test_equal_scores_are_told_apart_where_it_matters() -> None:
    _, features, pool = _pool(100)
    equal = PoolPredictions.of(pool.tasks, pool.keys, np.ones((100, 1), np.float32))
    found = spread(equal, features, pool, seed=0, batch=5)
    assert (np.diff(found.scores[:6]) > 0).all()
    assert found.scores.max() == 1
    assert found.scores.min() > 0.999


def test_equal_texts_are_picked_once() -> None:
    assert far_apart(np.ones((9, D)), 5, 0).tolist() == [0]
    assert far_apart(np.empty((0, D)), 5, 0).tolist() == []
