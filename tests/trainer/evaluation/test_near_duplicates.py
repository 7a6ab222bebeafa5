"""Near-duplicates: which texts have one in another fold, and which pairs a report lists."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.evaluation.near_duplicates import (
    MAX_PAIRS,
    NONE,
    Neighbours,
    find_neighbours,
    list_near_duplicates,
)
from tests.trainer.evaluation.datasets import dataset_of


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4)), max_size=30),
    st.sampled_from([0.5, 0.95]),
)
def test_neighbours_are_the_nearest_of_another_fold(rows: list[tuple[int, int]], threshold: float) -> None:
    places = np.array([place for place, _ in rows], np.int64)
    folds = np.array([fold for _, fold in rows], np.int64)
    angles = places * 0.25
    features = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32).reshape(-1, 2)
    cosines = np.where(folds[:, None] != folds[None, :], features @ features.T, -1)
    found = find_neighbours(features, folds, threshold)
    assert (found.found == (cosines >= threshold).any(axis=1)).all()
    with_one = np.flatnonzero(found.found)
    assert (folds[found.nearest[with_one]] != folds[with_one]).all()
    best = cosines[with_one].max(axis=1) if len(with_one) else np.empty(0)
    np.testing.assert_allclose(found.similarity[with_one], best, atol=1e-6)
    np.testing.assert_allclose(cosines[with_one, found.nearest[with_one]], best, atol=1e-6)


def test_neighbours_are_found_beyond_one_block() -> None:
    features = np.eye(2_500, 2_500, dtype=np.float32)
    features[2_400] = features[3]
    folds = np.where(np.arange(2_500) < 1_250, 0, 1)
    found = find_neighbours(features, folds)
    assert np.flatnonzero(found.found).tolist() == [3, 2_400]
    assert (found.nearest[3], found.nearest[2_400]) == (2_400, 3)


def test_each_pair_is_listed_once_contradicting_ones_first() -> None:
    dataset = dataset_of(["A", "A", "B", "A", "B"])
    nearest = np.array([1, 0, 3, 2, NONE])
    found = list_near_duplicates(
        dataset, Neighbours(nearest, np.array([0.99, 0.99, 0.96, 0.96, 0], np.float32))
    )
    assert (found.texts, found.contradicting) == (4, 2)
    first, second = found.pairs
    assert ({first.task_id, first.other_task_id}, {first.true, first.other_true}) == ({102, 103}, {0, 1})
    assert ({second.task_id, second.other_task_id}, second.similarity) == ({100, 101}, 0.99)


def test_texts_without_near_duplicates_list_none() -> None:
    nothing = Neighbours(np.full(2, NONE), np.zeros(2, np.float32))
    found = list_near_duplicates(dataset_of(["A", "B"]), nothing)
    assert (found.texts, found.contradicting, found.pairs) == (0, 0, ())


def test_at_most_twenty_pairs_are_listed() -> None:
    size = 4 * MAX_PAIRS
    nearest = np.arange(size) ^ 1
    found = list_near_duplicates(
        dataset_of(["A", "B"] * (size // 2)), Neighbours(nearest, np.ones(size, np.float32))
    )
    assert len(found.pairs) == MAX_PAIRS
    assert found.contradicting == size
