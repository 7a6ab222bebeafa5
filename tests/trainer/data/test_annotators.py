"""How annotators agree: counted from rows of the label index, the same as from the votes themselves."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.core.labels.index import LabelIndex
from services.core.labels.rows import label_row
from services.trainer.data.annotators import MAX_TASKS, measure_disagreement
from tests.core.labels.rows import SPACE, annotation, task

VOTES = st.lists(st.lists(st.sampled_from("ABC"), min_size=1, max_size=4), max_size=12)


def index_of(tasks: list[dict[str, object]]) -> LabelIndex:
    return LabelIndex.of(row for one in tasks if (row := label_row(SPACE, one)))


def voted(number: int, *labels: str) -> dict[str, object]:
    return task(number, *(annotation(label, place) for place, label in enumerate(labels, 1)))


@given(VOTES)
def test_tasks_with_several_votes_are_compared(votes: list[list[str]]) -> None:
    index = index_of([voted(number, *labels) for number, labels in enumerate(votes, 1)])
    found = measure_disagreement(index, SPACE.labels)
    several = [(number, labels) for number, labels in enumerate(votes, 1) if len(labels) > 1]
    apart = [number for number, labels in several if len(set(labels)) > 1]
    assert (found.tasks, found.agreed) == (len(several), len(several) - len(apart))
    assert sorted(found.examples) == apart
    ties = found.examples[: found.tied]
    assert all(
        votes[number - 1].count(label) * 2 <= len(votes[number - 1]) for number in ties for label in "ABC"
    )
    contested = sum(row.tasks - row.agreed for row in found.per_label)
    assert contested == len(apart) - found.tied


def test_a_majority_counts_for_its_label() -> None:
    index = index_of([voted(1, "A", "A", "B"), voted(2, "A", "A"), voted(3, "B", "C"), voted(4, "C")])
    found = measure_disagreement(index, SPACE.labels)
    assert (found.tasks, found.agreed, found.tied, found.examples) == (3, 1, 1, (3, 1))
    (row,) = found.per_label
    assert (row.label, row.tasks, row.agreed) == ("A", 2, 1)


def test_answers_that_are_no_votes_are_not_compared() -> None:
    again = annotation("B", 2, completed_by=1, updated_at="2026-01-02T00:00:00Z")
    tasks = [
        task(1, annotation("A", 1), annotation("unknown", 2)),
        task(2, annotation("A", 1), again),
        task(3, annotation("A", 1), annotation("B", 2, was_cancelled=True)),
    ]
    assert measure_disagreement(index_of(tasks), SPACE.labels).tasks == 0


def test_tasks_with_ground_truth_are_left_out() -> None:
    decided = task(1, annotation("A", 1, ground_truth=True), annotation("A", 2), annotation("B", 3))
    assert measure_disagreement(index_of([decided]), SPACE.labels).tasks == 0


def test_examples_are_limited() -> None:
    index = index_of([voted(number, "A", "B") for number in range(1, MAX_TASKS + 20)])
    found = measure_disagreement(index, SPACE.labels)
    assert (found.tied, len(found.examples)) == (MAX_TASKS + 19, MAX_TASKS)
