"""data.dataset: one example per text, whatever the order; what is dropped is counted."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Counts, LabelSpace, LabelState
from services.core.errors import BadData
from services.core.labels import task_text, text_key
from services.core.labels.index import LabelIndex
from services.core.labels.rows import label_row
from services.core.labels.text import is_blank
from services.trainer.data.dataset import Dataset, build_dataset, check_trainable
from services.trainer.data.labels import RunLabels

SPACE = LabelSpace("c", "t", "$body", ("B", "A", "unused"))


def annotation(label: str, number: int = 1, **more: Any) -> dict[str, Any]:
    region = {"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": [label]}}
    return {
        "id": number,
        "completed_by": number,
        "result": [region],
        "updated_at": "2026-01-01T00:00:00Z",
        **more,
    }


def task(number: int, text: Any, *annotations: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": number, "data": {"body": text}, "annotations": list(annotations), **more}


def build(*tasks: Any, now: Sequence[Any] | None = None, skipped: int | None = None) -> Dataset:
    """Build a data set of tasks as they were when the run was requested; `now`: as they are when it reads their texts."""
    rows = (label_row(SPACE, one) for one in tasks)
    index = LabelIndex.of(row for row in rows if row)
    found = sum(bool(given.get("was_cancelled")) for one in tasks for given in one["annotations"])
    counts = Counts(len(tasks), len(tasks), found if skipped is None else skipped, "")
    state = LabelState((), SPACE, "hash", index.digest, len(index), counts)
    texts = {one["id"]: task_text(SPACE, one["data"]) for one in (tasks if now is None else now)}
    return build_dataset(RunLabels(state, SPACE, index), texts)


def labels_of(dataset: Dataset) -> dict[str, str]:
    return {example.text: example.label for example in dataset.examples}


def test_examples_are_sorted_by_key_and_labels_by_the_config() -> None:
    dataset = build(
        task(1, "one", annotation("A", 11)),
        task(2, "two", annotation("B", 12)),
        task(3, "three", annotation("A", 13)),
    )
    assert dataset.keys == sorted(text_key(text) for text in ("one", "two", "three"))
    assert dataset.labels == ("B", "A", "unused")
    assert dataset.texts == [example.text for example in dataset.examples]
    assert dataset.targets.dtype == np.int64
    assert [dataset.labels[target] for target in dataset.targets] == [
        example.label for example in dataset.examples
    ]
    assert dataset.dropped == {}
    assert {example.task_id for example in dataset.examples} == {1, 2, 3}
    assert dataset.annotation_ids == (11, 12, 13)


def test_what_is_dropped_is_counted_by_reason() -> None:
    dataset = build(
        task(
            1,
            "one",
            annotation("A", 1),
            annotation("B", 2, was_cancelled=True),
            annotation("B", 3, result=[]),
        ),
        task(2, "two", annotation("gone")),
        task(3, "three", annotation("A", 1), annotation("B", 2)),
        task(4, "four", annotation("A", 1), annotation("A", 2), annotation("B", 3)),
        task(5, " ", annotation("A")),
    )
    assert labels_of(dataset) == {"one": "A", "four": "A"}
    assert dataset.third_opinion == (3,)
    assert dataset.dropped == {
        "cancelled": 1,
        "empty": 1,
        "foreign_label": 1,
        "no_text": 1,
        "outvoted": 1,
        "tied": 2,
    }


@pytest.mark.parametrize("text", [None, "", "  ", "\x00\x01", "\u200b\ufeff", []])
def test_counts_a_task_without_text(text: Any) -> None:
    dataset = build(task(1, text, annotation("A")))
    assert dataset.examples == ()
    assert dataset.dropped == {"no_text": 1}


@pytest.mark.parametrize("data", [None, 7, "text", [], {"other": "text"}])
def test_counts_a_task_without_data(data: Any) -> None:
    assert build({"id": 1, "data": data, "annotations": [annotation("A")]}).dropped == {"no_text": 1}


def test_equal_texts_become_one_example() -> None:
    dataset = build(task(9, " cafe\u0301\n", annotation("A", 19)), task(3, "café", annotation("A", 13)))
    (example,) = dataset.examples
    assert (example.task_id, example.text, dataset.annotation_ids) == (3, "café", (13, 19))
    assert dataset.dropped == {"duplicate_text": 1}


@pytest.mark.parametrize(
    "texts",
    [
        ("ok 👍", "ok 👎", "ok"),
        ("C", "C++", "C#", "c"),
        ("a == b", "a != b"),
        ("-5", "5", "1.5 mg", "15 mg"),
        ("दिन", "दान", "किताब", "कताब"),
        ("กิน", "กัน"),
        ("שִׁיר", "שַׁיר", "שיר"),
        ("مُدرِّسة", "مَدرسة"),
        ("می‌خواهم", "میخواهم"),
        ("👍", "???", ":)", "…", "👨‍👩‍👧", "👨👩👧"),
        ("\ufb01ne", "fine", "\uff46ine"),
        ("two words", "two  words"),
    ],
)
def test_different_texts_are_different_examples(texts: tuple[str, ...]) -> None:
    """Of other labels as well: none is taken for a duplicate of another."""
    dataset = build(*(task(number, text, annotation("AB"[number % 2])) for number, text in enumerate(texts)))
    assert labels_of(dataset) == {text: "AB"[number % 2] for number, text in enumerate(texts)}
    assert dataset.dropped == {}


@given(st.lists(st.text("aA é\u0301👍👎-.\u200d", min_size=1), max_size=8))
def test_one_example_per_distinct_text(texts: list[str]) -> None:
    dataset = build(*(task(number, text, annotation("A")) for number, text in enumerate(texts)))
    seen = [text for text in texts if not is_blank(text)]
    assert len(dataset.examples) == len({unicodedata.normalize("NFC", text.strip()) for text in seen})
    assert len(dataset.split_keys) == len(dataset.examples)


def test_a_task_is_one_vote_among_equal_texts() -> None:
    dataset = build(
        task(1, "one", annotation("A", 1), annotation("A", 2), annotation("A", 3)),
        task(2, "one", annotation("B", 4)),
        task(3, "one", annotation("B", 5)),
    )
    (example,) = dataset.examples
    assert (example.label, example.task_id, dataset.annotation_ids) == ("B", 2, (4, 5))
    assert dataset.dropped == {"duplicate_text": 1, "outvoted_duplicate": 1}


def test_an_outvoted_annotator_of_the_chosen_task_is_known() -> None:
    dataset = build(
        task(1, "one", annotation("A", 1), annotation("A", 2), annotation("B", 3)),
        task(2, "two", annotation("A", 4), annotation("A", 5)),
        task(3, "two", annotation("A", 6)),
        task(4, "two", annotation("B", 7)),
    )
    assert {example.text: example.outvoted for example in dataset.examples} == {"one": True, "two": False}


def test_ground_truth_wins_among_equal_texts() -> None:
    dataset = build(
        task(1, "one", annotation("A", 1, ground_truth=True)),
        task(2, "one", annotation("B", 2)),
        task(3, "one", annotation("B", 3)),
    )
    assert labels_of(dataset) == {"one": "A"}


def test_tied_duplicates_need_a_third_opinion() -> None:
    dataset = build(
        task(1, "one", annotation("A")), task(2, "one ", annotation("B")), task(3, "three", annotation("B"))
    )
    assert labels_of(dataset) == {"three": "B"}
    assert dataset.third_opinion == (1, 2)
    assert dataset.dropped == {"conflicting_duplicates": 2}


def test_a_deleted_task_gives_no_example() -> None:
    tasks = [task(number, f"text {number}", annotation("AB"[number % 2], number)) for number in range(1, 4)]
    dataset = build(*tasks, now=tasks[1:])
    assert {example.task_id for example in dataset.examples} == {2, 3}
    assert dataset.dropped == {"deleted_task": 1}
    assert dataset.annotation_ids == (2, 3)


@pytest.mark.parametrize("text", ["another", "One", "", None])
def test_a_task_with_another_text_gives_no_example(text: Any) -> None:
    """Its label was given to the text that it showed before."""
    tasks = [task(number, f"text {number}", annotation("A")) for number in (1, 2)]
    dataset = build(*tasks, now=[task(1, text), tasks[1]])
    assert labels_of(dataset) == {"text 2": "A"}
    assert dataset.dropped == {"changed_text": 1}


def test_an_equal_text_takes_the_place_of_a_deleted_task() -> None:
    tasks = [task(number, "one", annotation("A")) for number in (1, 2, 3)]
    dataset = build(*tasks, now=tasks[1:])
    assert [(example.text, example.task_id) for example in dataset.examples] == [("one", 2)]
    assert dataset.dropped == {"deleted_task": 1, "duplicate_text": 1}


TASKS = st.lists(
    st.builds(
        task,
        st.integers(1, 8),
        st.sampled_from(["one", "one ", "One", "two", "three", None, 7, "?"]),
        st.builds(
            annotation, st.sampled_from(["A", "B", "gone"]), st.integers(1, 4), ground_truth=st.booleans()
        ),
        st.builds(annotation, st.sampled_from(["A", "B"]), st.integers(1, 4), was_cancelled=st.booleans()),
    ),
    max_size=8,
    unique_by=lambda one: one["id"],
)


@given(TASKS, st.randoms())
def test_the_order_of_tasks_does_not_matter(tasks: list[Any], random: Any) -> None:
    shuffled = list(tasks)
    random.shuffle(shuffled)
    assert build(*shuffled) == build(*tasks)


@given(TASKS, st.sets(st.integers(1, 8)), st.sets(st.integers(1, 8)))
def test_every_task_is_an_example_or_counted(tasks: list[Any], deleted: set[int], edited: set[int]) -> None:
    edits = [task(one["id"], "edited") if one["id"] in edited else one for one in tasks]
    dataset = build(*tasks, now=[one for one in edits if one["id"] not in deleted])
    by_task = (
        "no_text",
        "deleted_task",
        "changed_text",
        "duplicate_text",
        "outvoted_duplicate",
        "conflicting_duplicates",
    )
    counted = sum(dataset.dropped.get(name, 0) for name in by_task)
    unlabelled = len(tasks) - counted - len(dataset.examples)
    assert 0 <= unlabelled <= len(tasks)
    assert len(set(dataset.keys)) == len(dataset.examples)
    assert not {example.task_id for example in dataset.examples} & (deleted | edited)
    json.dumps([dataset.dropped, dataset.third_opinion, dataset.annotation_ids])


@given(TASKS)
def test_skipped_annotations_are_label_studios_count(tasks: list[Any]) -> None:
    """It does not send those of tasks without another annotation."""
    assert build(*tasks, skipped=30).dropped["cancelled"] == 30
    assert "cancelled" not in build(*tasks, skipped=0).dropped


def test_two_labels_with_examples_are_trainable() -> None:
    dataset = build(*(task(number, f"text {number}", annotation("AB"[number % 2])) for number in range(4)))
    check_trainable(dataset, SPACE)  # must not raise


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([], "No text has been labelled yet: 2 labels with an example each are needed."),
        (
            [task(1, "one", annotation("A", was_cancelled=True)), task(2, None, annotation("A"))],
            (
                "No label counts yet: 2 labels with an example each are needed. 1 annotation does not count: skipped. "
                "1 task does not count: without a text."
            ),
        ),
        (
            [
                task(1, "one", annotation("A")),
                task(2, "two", annotation("A")),
                task(3, "three", annotation("gone")),
            ],
            (
                "2 labels with examples are needed, but only 'A' has any (2 texts). "
                '1 annotation does not count: with a label that <Choices name="c"> does not have ("gone"). '
                "An annotation counts only if it contains a choice exactly as written (its alias, if it has one): correct the "
                "annotations or the label config."
            ),
        ),
    ],
)
def test_untrainable_labels_name_what_was_dropped(tasks: list[Any], sentence: str) -> None:
    with pytest.raises(BadData) as caught:
        check_trainable(build(*tasks), SPACE)
    assert str(caught.value) == sentence
