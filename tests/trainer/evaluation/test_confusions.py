"""Confusions: the pairs of labels with the most errors, with tasks that show them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.evaluation.confusions import MAX_CONFUSIONS, MAX_TASKS, list_confusions
from services.trainer.evaluation.metrics import confusion_matrix
from tests.trainer.evaluation.datasets import dataset_of

NAMES = ("A", "B", "C", "D")
ANSWERS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(5, 9)), max_size=40)


@given(ANSWERS)
def test_confusions_are_the_cells_off_the_diagonal(rows: list[tuple[int, int, int]]) -> None:
    dataset = dataset_of([NAMES[true] for true, _, _ in rows], NAMES)
    probabilities = np.full((len(rows), 4), 0.1)
    for row, (_, predicted, tenths) in enumerate(rows):
        probabilities[row, predicted] = tenths / 10
    found = list_confusions(dataset, np.arange(len(rows)), probabilities)
    answers = np.array([answer for _, answer, _ in rows], np.int64)
    matrix = confusion_matrix(answers, dataset.targets, 4)
    np.fill_diagonal(matrix, 0)
    assert sorted((one.true, one.predicted, one.texts) for one in found) == [
        (true, other, int(matrix[true, other])) for true, other in np.argwhere(matrix).tolist()
    ]
    counts = [one.texts for one in found]
    assert counts == sorted(counts, reverse=True)
    for one in found:
        assert len(one.tasks) == min(MAX_TASKS, one.texts)
        assert all(rows[task - 100][:2] == (one.true, one.predicted) for task in one.tasks)


def test_examples_are_the_most_confident() -> None:
    dataset = dataset_of(["A"] * 3 + ["B"])
    probabilities = np.array([[0.4, 0.6], [0.1, 0.9], [0.3, 0.7], [0.2, 0.8]])
    (found,) = list_confusions(dataset, np.arange(4), probabilities)
    assert (found.texts, found.tasks) == (3, (101, 102))


def test_of_equal_confusions_that_of_the_rarer_label_is_first() -> None:
    dataset = dataset_of(["A", "A", "A", "B", "C"], NAMES)
    found = list_confusions(dataset, np.arange(5), np.eye(4)[[3, 0, 0, 3, 2]])
    assert [(one.true, one.predicted) for one in found] == [(1, 3), (0, 3)]


def test_only_evaluated_texts_are_examples() -> None:
    dataset = dataset_of(["A", "A", "B"])
    (found,) = list_confusions(dataset, np.array([1]), np.array([[0.2, 0.8]]))
    assert found.tasks == (101,)


def test_at_most_a_hundred_pairs_are_listed() -> None:
    names = tuple(map(str, range(40)))
    dataset = dataset_of(list(names) * 5, names)
    predicted = (dataset.targets + 1 + np.arange(200) // 40) % 40
    found = list_confusions(dataset, np.arange(200), np.eye(40)[predicted])
    assert len(found) == MAX_CONFUSIONS
