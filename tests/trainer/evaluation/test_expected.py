"""evaluation.expected: the accuracy to expect, from answers to unlabelled texts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Counts, Estimate, Selection
from services.trainer.data.dataset import Dataset, Example
from services.trainer.data.features import Floats
from services.trainer.evaluation.expected import (
    MIN_TEXTS,
    expected_accuracy,
    labelled_share,
    margin,
    of_unlabelled,
    selection_of,
)
from tests.support.label_states import EMPTY_STATE

JUDGED = Estimate(200, 150, 0.69, 0.80, 0.7, "cross-fit")


def dataset_of(texts: int, labels: int = 2, tasks: int = 10_000) -> Dataset:
    names = tuple(f"label {number}" for number in range(labels))
    examples = tuple(
        Example(f"{number:064x}", f"text {number}", names[number % labels], number) for number in range(texts)
    )
    return Dataset(examples, names, replace(EMPTY_STATE, counts=Counts(texts, texts, 0, "", tasks)), (), ())


def answers(top: float, texts: int) -> Floats:
    return np.tile(np.array([top, 1 - top], np.float32), (texts, 1))


def test_figure_is_the_mean_probability_of_many_texts_a_label() -> None:
    unseen = np.concatenate([answers(0.9, 500), answers(0.7, 500)])
    found = expected_accuracy(unseen, answers(0.8, 300), JUDGED, dataset_of(300))
    assert found.accuracy == pytest.approx(0.8, abs=1e-3)
    assert (found.texts, found.selection, found.reason) == (1000, Selection.RANDOM, "")
    assert 0.04 < found.margin < 0.05


def test_few_texts_a_label_are_answered_with_too_much_certainty() -> None:
    few, many = (of_unlabelled(answers(0.8, 500), answers(0.8, 100), texts, 0.1) for texts in (4, 400))
    assert few.accuracy == pytest.approx(0.77)
    assert many.accuracy == pytest.approx(0.7997)


def test_labels_that_were_chosen_have_a_wider_margin() -> None:
    found = expected_accuracy(answers(0.8, 2000), answers(0.55, 1000), JUDGED, dataset_of(1000))
    assert found.selection is Selection.UNCERTAIN
    assert found.margin >= 0.05


def test_share_of_labelled_tasks_counts_equal_texts_as_often_as_there_are_tasks() -> None:
    """300 different texts in 600 of 1,000 tasks: the margin is that of more than half of the project."""

    def share(*counts: int) -> float:
        annotated, tasks, labelled = counts
        state = replace(EMPTY_STATE, counts=Counts(annotated, annotated, 0, "", tasks), labelled=labelled)
        return labelled_share(state)

    assert share(600, 1000, 0) == 0.6
    assert share(0, 1000, 600) == 0.6, (
        "imported annotations are ground truth, which Label Studio does not count"
    )
    assert share(600, 0, 600) == share(3, 2, 3) == 1
    once = dataset_of(300, tasks=1000)
    often = replace(once, state=replace(once.state, counts=Counts(600, 600, 0, "", 1000)))
    unseen, labelled = answers(0.8, 2000), answers(0.55, 300)
    margins = [expected_accuracy(unseen, labelled, JUDGED, dataset).margin for dataset in (once, often)]
    assert margins[1] - margins[0] == pytest.approx(0.5 * 0.3 * 0.25, abs=1e-3)


@pytest.mark.parametrize(
    ("unseen", "dataset"),
    [
        (None, dataset_of(300)),
        (answers(0.8, MIN_TEXTS - 1), dataset_of(300)),
        (answers(0.8, 500), dataset_of(19)),
        (answers(0.8, 500), dataset_of(150, labels=77)),
    ],
)
def test_too_few_texts_give_no_figure(unseen: Floats | None, dataset: Dataset) -> None:
    found = expected_accuracy(unseen, answers(0.8, 300), JUDGED, dataset)
    assert (found.accuracy, found.reason) == (None, "too few labels to say")


def test_figure_is_cross_validated_once_all_is_labelled() -> None:
    found = expected_accuracy(None, answers(0.8, 200), JUDGED, dataset_of(200, tasks=200))
    assert (found.accuracy, found.texts) == (0.75, 0)
    assert found.margin == pytest.approx(0.055)
    few = expected_accuracy(None, answers(0.8, 90), JUDGED, dataset_of(90, tasks=90))
    many_labels = expected_accuracy(None, answers(0.8, 200), JUDGED, dataset_of(200, labels=77, tasks=200))
    assert few.accuracy is many_labels.accuracy is None


@given(st.floats(0, 1), st.integers(1, 100_000), st.sampled_from(Selection))
def test_margin_never_grows_with_labels(accuracy: float, texts: int, selection: Selection) -> None:
    assert margin(accuracy, texts + 1, selection) <= margin(accuracy, texts, selection)
    assert margin(accuracy, texts, Selection.RANDOM) <= margin(accuracy, texts, selection)


@pytest.mark.parametrize(
    ("texts", "random", "chosen"), [(100, 8, 8), (300, 5, 5), (1000, 2, 5), (9000, 2, 5)]
)
def test_margin_in_points(texts: int, random: int, chosen: int) -> None:
    assert round(100 * margin(0.8, texts, Selection.RANDOM)) == random
    assert round(100 * margin(0.8, texts, Selection.UNCERTAIN)) == chosen


def test_selection_needs_labelled_texts() -> None:
    top = np.full(100, 0.8, np.float32)
    assert selection_of(top[:0], top) is Selection.UNKNOWN
    assert selection_of(top, top) is Selection.RANDOM
    assert selection_of(top - 0.3, top) is Selection.UNCERTAIN


@pytest.mark.parametrize(
    ("labelled", "others", "found"),
    [
        (0.94, 0.99, Selection.UNCERTAIN),  # nearly all of the difficult texts are labelled
        (0.969, 0.9895, Selection.UNKNOWN),
        (0.972, 0.99, Selection.RANDOM),  # of 97 %, 40 % of what lacks are 1.1 points: chance gives more
        (0.60, 0.66, Selection.RANDOM),
        (0.50, 0.70, Selection.UNCERTAIN),
    ],
)
def test_selection_is_seen_however_accurate_the_answers_are(
    labelled: float, others: float, found: Selection
) -> None:
    spread = np.tile(np.array([-0.01, 0.01], np.float32), 300)
    assert selection_of(labelled + spread, others + spread) is found


def test_margin_grows_with_the_share_of_chosen_texts() -> None:
    unseen, labelled = answers(0.95, 400), answers(0.65, 300)
    few, many = (of_unlabelled(unseen, labelled, 300, share) for share in (0.01, 0.5))
    assert few.selection is many.selection is Selection.UNCERTAIN
    assert many.margin - few.margin == pytest.approx(0.245 * 0.3, abs=1e-5)
    random = [of_unlabelled(unseen, unseen, 300, share).margin for share in (0.01, 0.5)]
    assert random[0] == random[1]
