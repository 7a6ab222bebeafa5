"""Labels of texts that may have several, from annotations to examples, through the stored index."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.labels.annotations import exclusion_cause, resolve
from services.core.labels.examples import examples_of, words_of
from services.core.labels.index import EMPTY, LabelIndex, difference
from services.core.labels.rows import NO_LABEL, NO_SIGNATURE, LabelRow, LabelSet, label_row
from services.core.labels.segments import LabelStore
from services.core.store.files import FileStore
from tests.core.labels.rows import SPACE, STATE, task

SEVERAL = replace(SPACE, multiple=True, empty_counts=True)
SETS = st.sets(st.integers(0, 2)).map(lambda found: tuple(sorted(found)))
ROWS = st.builds(
    LabelRow,
    task=st.integers(1, 12),
    text_key=st.integers(0, 3),
    signature=st.integers(0, 2),
    newest_annotation=st.integers(0, 99),
    label=SETS | st.just(NO_LABEL),
    causes=st.just(()),
    changed_at=st.integers(0, 9),
    annotations=st.just(1),
    flags=st.sampled_from([1, 3]),
)


def annotation(*labels: str, number: int = 1, **more: Any) -> dict[str, Any]:
    region = {"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": list(labels)}}
    stamp = "2026-01-01T00:00:00Z"
    result = [region] if labels else []
    return {"id": number, "completed_by": number, "result": result, "updated_at": stamp, **more}


@pytest.mark.parametrize(
    ("given_annotation", "reason"),
    [
        (annotation("A", "C"), ""),
        (annotation(), ""),
        (annotation(result=[{"from_name": "c", "value": {"choices": []}}]), ""),
        (annotation(result=[{"from_name": "other", "value": {"choices": ["A"]}}]), ""),
        (annotation(result=None), "empty"),
        (annotation(result=[7]), "malformed"),
        (annotation("A", was_cancelled=True), "cancelled"),
        (annotation("A", "gone"), "foreign_label"),
        (annotation(result=[{"from_name": "c", "value": {"choices": ["A", None]}}]), "malformed"),
    ],
)
def test_which_annotations_count(given_annotation: dict[str, Any], reason: str) -> None:
    cause = exclusion_cause(SEVERAL, given_annotation)
    assert (cause.reason if cause else "") == reason


def test_nothing_is_no_answer_to_a_required_control() -> None:
    required = replace(SEVERAL, empty_counts=False)
    for given_annotation in (annotation(), annotation(result=[{"from_name": "c", "value": {"choices": []}}])):
        cause = exclusion_cause(required, given_annotation)
        assert cause is not None
        assert cause.reason == "empty"


def test_votes_for_other_labels_are_outvoted() -> None:
    votes = [("A", "B"), ("B", "C"), ("A", "C")]
    found = resolve(SEVERAL, [annotation(*vote, number=place) for place, vote in enumerate(votes)])
    assert {cause.reason: count for cause, count in found.causes.items()} == {"outvoted": 3}


@pytest.mark.parametrize(
    ("votes", "labels", "ids"),
    [
        ([("A", "C")], ("A", "C"), (1,)),
        ([()], (), (1,)),
        ([("A", "C"), ("C", "A")], ("A", "C"), (1, 2)),
        ([("A", "B"), ("A",)], None, ()),
        ([("A", "B"), ("A",), ("A", "C")], ("A",), (2,)),
        ([("A", "B"), ("B", "C"), ("A", "C")], ("A", "B", "C"), (1, 2, 3)),
        ([("A",), (), ()], (), (2, 3)),
    ],
)
def test_the_majority_decides_on_each_label(
    votes: list[tuple[str, ...]], labels: tuple[str, ...] | None, ids: tuple[int, ...]
) -> None:
    found = resolve(SEVERAL, [annotation(*vote, number=place + 1) for place, vote in enumerate(votes)])
    assert (found.labels, found.annotation_ids) == (labels, ids)
    assert found.reason == ("" if labels is not None else "tie")


def test_ground_truth_wins() -> None:
    votes = [annotation("A", number=1), annotation("A", number=2), annotation("B", "C", number=3)]
    votes[2]["ground_truth"] = True
    assert resolve(SEVERAL, votes).labels == ("B", "C")


def test_an_empty_annotation_makes_a_labelled_task() -> None:
    row = label_row(SEVERAL, task(7, annotation()))
    assert row is not None
    assert (row.label, row.newest_annotation) == ((), 1)
    assert row.signature != NO_SIGNATURE
    single = label_row(SPACE, task(7, annotation()))
    assert single is not None
    assert (single.label, single.signature) == (NO_LABEL, NO_SIGNATURE)


@given(st.lists(st.tuples(st.lists(ROWS, max_size=5), st.lists(st.integers(1, 14), max_size=3)), max_size=5))
def test_any_steps_give_the_index_of_their_result(steps: list[tuple[list[LabelRow], list[int]]]) -> None:
    index, rows = EMPTY, dict[int, LabelRow]()
    for upserts, removed in steps:
        before, index = index, index.upsert(upserts, removed)
        rows = {number: row for number, row in rows.items() if number not in removed}
        rows |= {row.task: row for row in upserts}
        assert list(before.merge(*difference(before, index))) == list(index)
    assert list(index) == [rows[number] for number in sorted(rows)]
    assert list(index.compact()) == list(index)


@given(st.lists(ROWS, max_size=8), st.lists(ROWS, max_size=8))
def test_sets_of_labels_are_read_back(first: list[LabelRow], then: list[LabelRow]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        labels = LabelStore(FileStore(Path(folder)), "1-5")
        index = LabelIndex.of(first)
        state = labels.write(STATE, index)
        changed = index.upsert(then)
        again = labels.write(STATE, changed, (state, index))
        assert list(labels.load(again)) == list(changed)


def test_examples_have_their_sets_and_counts() -> None:
    given_tasks = [
        task(1, annotation("A", "C")),
        task(2, annotation(), text="none of these"),
        task(3, annotation("C"), text="text 4"),
        task(4, annotation("C"), text="text 4"),
    ]
    rows = [row for one in given_tasks if (row := label_row(SEVERAL, one))]
    found = examples_of(LabelIndex.of(rows))
    assert sorted(found.labels(SEVERAL)) == [(), ("A", "C"), ("C",)]
    assert found.counts(SEVERAL) == {"A": 1, "B": 0, "C": 2}
    assert found.agreeing.tolist() == [0, 1, 2, 3]


def test_equal_texts_with_other_sets_need_a_third_opinion() -> None:
    given_tasks = [task(1, annotation("A", "C"), text="x"), task(2, annotation("A"), text="x")]
    rows = [row for one in given_tasks if (row := label_row(SEVERAL, one))]
    found = examples_of(LabelIndex.of(rows))
    assert (len(found.rows), found.third_opinion.tolist()) == (0, [1, 2])


@given(SETS)
def test_labels_in_words(numbers: LabelSet) -> None:
    labels = [SPACE.labels[number] for number in numbers]
    assert words_of(labels) == (", ".join(labels) if labels else "no label")
