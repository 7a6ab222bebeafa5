"""core.estimate_scores: the expected accuracy of versions, compared with annotations that came after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from services.core.domain import EstimateScore, ExpectedAccuracy, Manifest, Selection
from services.core.estimate_scores import (
    AVERAGED,
    MIN_ANNOTATIONS,
    AnsweredPool,
    average,
    judged_accuracy,
    labelled_since,
    score_estimate,
    selection_of,
)
from services.core.labels.index import LabelIndex
from services.core.labels.rows import COUNTED, LabelRow
from services.core.pool import PoolPredictions
from tests.support.manifests import build_manifest

LABELS = ("A", "B")
SCORE = EstimateScore("v-1", 1.0, 0.84, 0.05, 120, 100, 0.80, 0.03, Selection.RANDOM)


def row(task: int, key: int, label: int) -> LabelRow:
    return LabelRow(task, key, 1, 1, label, (), 1, 1, COUNTED)


def predictions_of(p1: NDArray[Any], labels: NDArray[np.int32]) -> PoolPredictions:
    """Answers for tasks 1 to n with the text keys 1001 to 1000 + n, the most uncertain first."""
    order = np.argsort(p1, kind="stable")
    tasks = np.arange(1, len(p1) + 1, dtype=np.int64)[order]
    p = p1[order].astype(np.float32)
    return PoolPredictions(tasks, labels[order], p, p, (tasks + 1000).astype(np.uint64))


def world(
    texts: int, seed: int, optimism: float = 0.0
) -> tuple[Manifest, PoolPredictions, NDArray[np.int64]]:
    """A version whose probabilities are too high by `optimism`, its answers, and the true label (n,) of each task."""
    random = np.random.default_rng(seed)
    p1 = random.uniform(0.5, 0.95, texts)
    answers = random.integers(0, 2, texts).astype(np.int32)
    is_right = random.uniform(size=texts) < p1 - optimism
    truth = np.where(is_right, answers, 1 - answers).astype(np.int64)
    expected = ExpectedAccuracy(float(p1.mean()), 0.05, texts)
    return replace(build_manifest("v-1"), expected=expected), predictions_of(p1, answers), truth


def index_of(tasks: NDArray[np.int64], truth: NDArray[np.int64]) -> LabelIndex:
    return LabelIndex.of(row(int(task), int(task) + 1000, int(truth[task - 1])) for task in tasks)


def scored(
    manifest: Manifest, answers: PoolPredictions, index: LabelIndex, labels: Sequence[str] = LABELS
) -> EstimateScore | None:
    return score_estimate(AnsweredPool(manifest, answers), None, index, labels)


@given(seed=st.integers(0, 2**16), optimism=st.sampled_from([0.0, 0.1, 0.2]))
@settings(max_examples=40, deadline=None)
def test_error_is_found_where_texts_were_chosen_at_random(seed: int, optimism: float) -> None:
    manifest, answers, truth = world(4000, seed, optimism)
    chosen = np.random.default_rng(seed).permutation(answers.tasks)[:1000]
    found = scored(manifest, answers, index_of(chosen, truth))
    assert found
    assert found.error == pytest.approx(optimism, abs=5 * found.chance)
    assert (found.annotations, found.version, found.selection) == (1000, "v-1", Selection.RANDOM)


@given(seed=st.integers(0, 2**16), optimism=st.sampled_from([0.0, 0.1, 0.2]))
@settings(max_examples=20, deadline=None)
def test_error_is_found_where_a_later_version_chose_the_texts(seed: int, optimism: float) -> None:
    manifest, answers, truth = world(4000, seed, optimism)
    order = np.argsort(answers.tasks)
    is_right = answers.labels[order] == truth
    # The later version knows better on nine tenths of what this one gets wrong, and those texts were labelled.
    known = is_right | (np.random.default_rng(seed).uniform(size=4000) < 0.9)
    new = np.where(known, truth, answers.labels[order]).astype(np.int32)
    judge = replace(manifest, lineage=replace(manifest.lineage, texts=1000))
    newest = AnsweredPool(judge, predictions_of(np.full(4000, 0.99), new))
    labelled = answers.tasks[:1000]
    found = score_estimate(AnsweredPool(manifest, answers), newest, index_of(labelled, truth), LABELS)
    assert found
    assert found.selection is Selection.UNCERTAIN
    # A tenth of the wrong half of the three quarters without a label stays undiscovered.
    assert found.error == pytest.approx(float(answers.p1.mean() - is_right.mean()), abs=0.05)


def test_chosen_texts_need_a_version_that_learnt_from_them() -> None:
    manifest, answers, truth = world(4000, 1)
    version, index = AnsweredPool(manifest, answers), index_of(answers.tasks[:100], truth)
    assert score_estimate(version, None, index, LABELS) is None
    few = replace(
        manifest, lineage=replace(manifest.lineage, texts=manifest.lineage.texts + MIN_ANNOTATIONS - 1)
    )
    assert score_estimate(version, AnsweredPool(few, answers), index, LABELS) is None
    enough = replace(few, lineage=replace(few.lineage, texts=few.lineage.texts + 1))
    assert score_estimate(version, AnsweredPool(enough, answers), index, LABELS)


def test_judge_is_read_by_label_and_text() -> None:
    answers = predictions_of(np.array([0.6, 0.7, 0.8, 0.9]), np.array([0, 0, 1, 1], np.int32))
    judge = predictions_of(np.array([0.5, 0.6, 0.8, 0.9]), np.array([1, 1, 1, 0], np.int32))
    judge = replace(judge, texts=np.where(judge.tasks == 4, 5, judge.texts).astype(np.uint64))
    found = judged_accuracy(answers, judge, np.array([1, 0]), np.array([0]), np.array([True]))
    # Task 1 has a label; 2 has the same answer with .6, 3 another one with .8, and 4 was edited.
    assert found == pytest.approx((1 + 0.6 + 0.1) / 3)


def test_few_annotations_are_not_scored() -> None:
    manifest, answers, truth = world(200, 1)
    tasks = np.arange(1, MIN_ANNOTATIONS + 1)
    assert scored(manifest, answers, index_of(tasks[:-1], truth)) is None
    assert scored(manifest, answers, index_of(tasks, truth))


def test_version_without_a_figure_is_not_scored() -> None:
    manifest, answers, truth = world(200, 1)
    index = index_of(np.arange(1, 101), truth)
    for other in (replace(manifest, expected=None), replace(manifest, expected=ExpectedAccuracy(None))):
        assert scored(other, answers, index) is None
    assert scored(replace(manifest, multi_label=True), answers, index) is None
    # The control has come to take several labels since.
    sets = LabelIndex(index.rows, index.causes, ((0,), (1,)))
    assert scored(manifest, answers, sets) is None


def test_labels_are_compared_by_name() -> None:
    manifest, answers, truth = world(200, 1)
    index = index_of(np.arange(1, 101), truth)
    plain = scored(manifest, answers, index)
    swapped = index_of(np.arange(1, 101), 1 - truth)
    assert scored(manifest, answers, swapped, ("B", "A")) == plain
    new = LabelIndex.of([*index, row(150, 1150, 2)])
    assert scored(manifest, answers, new, (*LABELS, "C")) == plain, "a label that it did not know"


def test_texts_that_it_may_have_learnt_are_left_out() -> None:
    answers = predictions_of(np.linspace(0.5, 0.9, 5), np.zeros(5, np.int32))
    index = LabelIndex.of(
        [
            row(1, 1001, 1),
            row(2, 77, 1),  # edited since
            row(3, 1003, 0),
            row(9, 1003, 0),  # the same text as task 3's, in a task that it had not answered
            row(4, 1004, -1),  # a tie
        ]
    )
    places, given_labels = labelled_since(answers, index)
    assert (answers.tasks[places].tolist(), given_labels.tolist()) == ([1], [1])


def test_texts_of_several_tasks_count_once() -> None:
    answers = predictions_of(np.linspace(0.5, 0.9, 5), np.zeros(5, np.int32))
    answers = replace(answers, texts=np.full(5, 1001, np.uint64))
    places, _ = labelled_since(answers, LabelIndex.of([row(1, 1001, 0), row(2, 1001, 0)]))
    assert len(places) == 1


@pytest.mark.parametrize("answered", [0, 3])
def test_nothing_labelled_since(answered: int) -> None:
    answers = predictions_of(np.linspace(0.5, 0.9, answered), np.zeros(answered, np.int32))
    for index in (LabelIndex.of([]), LabelIndex.of([row(9, 5, 0)])):
        assert len(labelled_since(answers, index)[0]) == 0


@pytest.mark.parametrize(
    ("ranks", "selection"),
    [
        (range(0), Selection.UNKNOWN),
        (range(100), Selection.UNCERTAIN),
        (range(0, 1000, 10), Selection.RANDOM),
        (range(900, 1000), Selection.UNKNOWN),
        (range(1), Selection.RANDOM),
    ],
)
def test_selection_is_seen_by_ranks(ranks: range, selection: Selection) -> None:
    found = selection_of(np.array(ranks, np.int64), 1000)
    assert found is selection


def test_average_is_of_the_newest() -> None:
    assert average([]) is None
    old = [
        replace(SCORE, version=f"v-{number}", created_at=float(number), expected=0.2) for number in range(5)
    ]
    new = [replace(SCORE, version=f"w-{number}", created_at=100.0 + number) for number in range(AVERAGED)]
    found = average([*new, *old])
    assert found
    assert (found.versions, found.annotations, found.selection) == (AVERAGED, 120, Selection.RANDOM)
    assert [found.error, found.bias] == pytest.approx([0.04, 0.04])
    assert found.chance == pytest.approx(0.03 * 0.798, abs=1e-4)


def test_errors_of_both_signs_do_not_cancel() -> None:
    found = average([SCORE, replace(SCORE, version="v-2", expected=0.76)])
    assert found
    assert [found.error, found.bias] == pytest.approx([0.04, 0.0])
