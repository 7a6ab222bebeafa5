"""Which labels are listed as suspect, and in which order."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core import documents
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation.suspects import (
    MAX_LISTED,
    MIN_EXAMPLES,
    MIN_TEXTS,
    find_suspect_sets,
    find_suspects,
    list_suspects,
)
from tests.trainer.evaluation.datasets import SECRET, dataset_of, sets_of

Answers = NDArray[np.float64]


def answers_for(targets: NDArray[np.int64], labels: int, sure: float = 0.9) -> Answers:
    """Return answers that agree with every label."""
    found = np.full((len(targets), labels), (1 - sure) / (labels - 1))
    found[np.arange(len(targets)), targets] = sure
    return found


def all_known(rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.ones(len(rows), np.bool_)


def alternating(texts: int, wrong: dict[int, float]) -> tuple[Dataset, NDArray[np.int64], Answers]:
    """Return texts labelled A, B, A, B, …; the models prefer the other label of those in `wrong`, so sure."""
    dataset = dataset_of(["AB"[place % 2] for place in range(texts)])
    answers = answers_for(dataset.targets, 2)
    for place, sure in wrong.items():
        answers[place] = answers[place][::-1] / 0.9 * sure
        answers[place, dataset.targets[place]] = 1 - sure
    return dataset, np.arange(texts), answers


def test_the_least_probable_label_comes_first() -> None:
    dataset, rows, answers = alternating(60, {7: 0.93, 40: 0.99, 21: 0.95})
    found = list_suspects(dataset, rows, answers, all_known(rows))
    assert [row.task_id for row in found.rows] == [140, 121, 107]
    assert (found.count, found.too_few) == (3, False)
    first = found.rows[0]
    assert (first.given, first.other) == (0, 1)
    assert (first.probability, first.other_probability) == (0.01, 0.99)
    assert SECRET not in json.dumps(documents.to_plain(found))


def test_a_doubt_less_clear_than_usual_is_not_listed() -> None:
    dataset, rows, answers = alternating(60, {7: 0.55})
    assert list_suspects(dataset, rows, answers, all_known(rows)).count == 0


def test_few_texts_say_nothing() -> None:
    dataset, rows, answers = alternating(MIN_TEXTS - 1, {7: 0.99})
    found = list_suspects(dataset, rows, answers, all_known(rows))
    assert (found.rows, found.too_few) == ((), True)


def test_a_label_with_few_texts_is_not_doubted() -> None:
    labels = ["A"] * 60 + ["B"] * (MIN_EXAMPLES - 1)
    dataset, rows = dataset_of(labels), np.arange(len(labels))
    answers = answers_for(np.zeros(len(labels), np.int64), 2)
    found = list_suspects(dataset, rows, answers, all_known(rows))
    assert (found.count, found.too_few) == (0, True)  # A is all that could be given


def test_rare_labels_beside_others_are_not_doubted() -> None:
    dataset = dataset_of(
        ["AB"[place % 2] for place in range(60)] + ["C"] * (MIN_EXAMPLES - 1), ("A", "B", "C")
    )
    rows = np.arange(len(dataset.examples))
    answers = answers_for(np.where(dataset.targets == 2, 0, dataset.targets), 3)
    found = list_suspects(dataset, rows, answers, all_known(rows))
    assert (found.count, found.too_few) == (0, False)


def test_a_label_unknown_to_its_model_is_not_doubted() -> None:
    dataset, rows, answers = alternating(60, {7: 0.99})
    known = all_known(rows)
    known[7] = False
    assert list_suspects(dataset, rows, answers, known).count == 0


def test_confirmed_labels_are_not_listed() -> None:
    dataset, rows, answers = alternating(60, {7: 0.93, 40: 0.99})
    found = list_suspects(dataset, rows, answers, all_known(rows), {(dataset.keys[40], "A")})
    assert [row.task_id for row in found.rows] == [107]
    examples = tuple(replace(one, ground_truth=one.task_id == 107) for one in dataset.examples)
    known = replace(dataset, examples=examples)
    found = list_suspects(known, rows, answers, all_known(rows), {(dataset.keys[40], "B")})
    assert [row.task_id for row in found.rows] == [140]


def test_the_list_has_a_bound_and_counts_all() -> None:
    dataset, rows, answers = alternating(1000, dict.fromkeys(range(0, 750, 3), 0.99))
    found = list_suspects(dataset, rows, answers, all_known(rows))
    assert (len(found.rows), found.count) == (MAX_LISTED, 250)


def test_only_evaluated_texts_are_listed() -> None:
    dataset, _, answers = alternating(120, {7: 0.99, 100: 0.99})
    rows = np.arange(50, 120)
    found = list_suspects(dataset, rows, answers[rows], all_known(rows))
    assert [row.task_id for row in found.rows] == [200]


def test_of_several_labels_each_is_doubted_by_itself() -> None:
    dataset = sets_of([(("A", "B"), ("A",), ("B",), ())[place % 4] for place in range(80)])
    rows, answers = np.arange(80), np.where(dataset.chosen, 0.9, 0.1)
    answers[4] = (0.02, 0.9)  # has A and B
    answers[9] = (0.9, 0.97)  # has A alone
    found = list_suspects(dataset, rows, answers, all_known(rows))
    assert [(row.task_id, row.annotation, row.given, row.other) for row in found.rows] == [
        (104, 504, 0, None),
        (109, 509, None, 1),
    ]
    assert [row.probability for row in found.rows] == [0.02, 0.03]
    assert [row.other_probability for row in found.rows] == [0.98, 0.97]
    left = list_suspects(
        dataset, rows, answers, all_known(rows), {(dataset.keys[4], "A"), (dataset.keys[9], "A")}
    )
    assert [row.task_id for row in left.rows] == [109]


def test_of_several_labels_one_must_be_given_and_missing_often() -> None:
    dataset = sets_of([("A",) for _ in range(60)])
    rows = np.arange(60)
    found = list_suspects(dataset, rows, np.where(dataset.chosen, 0.9, 0.1), all_known(rows))
    assert found.too_few


@st.composite
def cases(draw: st.DrawFn) -> tuple[Answers, NDArray[np.int64]]:
    labels, texts = draw(st.integers(2, 5)), draw(st.integers(1, 60))
    random = np.random.default_rng(draw(st.integers(0, 1 << 16)))
    return random.dirichlet(np.full(labels, 0.3), texts), random.integers(0, labels, texts)


@given(cases())
def test_a_suspect_label_is_never_the_most_probable(case: tuple[Answers, NDArray[np.int64]]) -> None:
    answers, targets = case
    found = find_suspects(answers, targets)
    assert (answers[found].argmax(axis=1) != targets[found]).all()
    order = np.random.default_rng(0).permutation(len(targets))
    assert (find_suspects(answers[order], targets[order]) == found[order]).all()


@given(cases())
def test_two_labels_are_one_label_given_or_not(case: tuple[Answers, NDArray[np.int64]]) -> None:
    answers, targets = case[0][:, :2], np.minimum(case[1], 1)
    both = answers / answers.sum(axis=1, keepdims=True).clip(1e-9)
    found = find_suspect_sets(both[:, 1:], targets[:, None] == 1)[:, 0]
    assert (found == find_suspects(np.stack([1 - both[:, 1], both[:, 1]], 1), targets)).all()


@given(cases(), st.integers(0, 1 << 16))
def test_the_order_does_not_depend_on_that_of_the_texts(
    case: tuple[Answers, NDArray[np.int64]], seed: int
) -> None:
    answers, targets = np.tile(case[0], (50, 1)), np.tile(case[1], 50)
    names = tuple("ABCDE"[: answers.shape[1]])
    dataset = dataset_of([names[target] for target in targets], names)
    rows = np.arange(len(targets))
    found = list_suspects(dataset, rows, answers, all_known(rows))
    order = np.random.default_rng(seed).permutation(len(rows))
    assert list_suspects(dataset, rows[order], answers[order], all_known(rows)) == found
    probabilities = [row.probability for row in found.rows]
    assert probabilities == sorted(probabilities)
    examples = [dataset.examples[row.task_id - 100] for row in found.rows]
    without = {(example.key, example.label) for example in examples}
    left = list_suspects(dataset, rows, answers, all_known(rows), without)
    assert left == replace(left, count=found.count - len(found.rows))
    assert not {row.task_id for row in left.rows} & {row.task_id for row in found.rows}
