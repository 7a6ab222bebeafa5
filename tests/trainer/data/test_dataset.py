"""data.dataset: one example per text, whatever the order; what is dropped is counted; malformed tasks never raise."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace
from services.core.errors import BadData
from services.core.labels import signature, text_key
from services.core.labels.text import is_blank
from services.trainer.data.dataset import Dataset, build_dataset, check_trainable

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


def build(*tasks: Any) -> Dataset:
    return build_dataset(tasks, SPACE, "hash", 7.0)


def labels_of(dataset: Dataset) -> dict[str, str]:
    return {example.text: example.label for example in dataset.examples}


def test_examples_are_sorted_by_key_and_labels_by_the_config() -> None:
    dataset = build(
        task(1, "one", annotation("A", 11)),
        task(2, "two", annotation("B", 12)),
        task(3, "three", annotation("A", 13)),
    )
    assert dataset.keys == sorted(text_key(text) for text in ("one", "two", "three"))
    assert dataset.labels == ("B", "A")
    assert dataset.texts == [example.text for example in dataset.examples]
    assert dataset.targets.dtype == np.int64
    assert [dataset.labels[target] for target in dataset.targets] == [
        example.label for example in dataset.examples
    ]
    assert dataset.dropped == {}
    assert {(example.task_id, example.annotation_ids) for example in dataset.examples} == {
        (1, (11,)),
        (2, (12,)),
        (3, (13,)),
    }


def test_snapshot_has_every_task_with_a_usable_annotation() -> None:
    """Of what was dropped as well: an edit of it must count as a change."""
    tasks = [
        task(1, "one", annotation("A")),
        task(2, "two", annotation("gone")),
        task(3, None, annotation("A")),
        task(4, "four", annotation("A", was_cancelled=True)),
        task(5, "five", annotation("A", 1), annotation("B", 2)),
    ]
    snapshot = build(*tasks).snapshot
    assert snapshot.tasks == {
        str(number): signature(tasks[number - 1]["annotations"]) for number in (1, 2, 3, 5)
    }
    assert (snapshot.label_config_hash, snapshot.labels, snapshot.taken_at) == ("hash", SPACE.labels, 7.0)


def test_what_is_dropped_is_counted_by_reason() -> None:
    dataset = build(
        task(
            1,
            "one",
            annotation("A", 1),
            annotation("B", 2, was_cancelled=True),
            annotation("B", 3, result=[]),
        ),
        task(2, "two", annotation("gone"), drafts=[{"id": 1}, {"id": 2}]),
        task(3, "three", annotation("A", 1), annotation("B", 2)),
        task(4, "four", annotation("A", 1), annotation("A", 2), annotation("B", 3)),
        task(5, " ", annotation("A")),
    )
    assert labels_of(dataset) == {"one": "A", "four": "A"}
    assert dataset.third_opinion == (3,)
    assert dataset.dropped == {
        "cancelled": 1,
        "draft": 2,
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


@pytest.mark.parametrize(
    "junk", [None, 7, "task", [], {}, {"id": None}, {"id": "x", "data": {"body": "one"}}]
)
def test_counts_a_task_without_id(junk: Any) -> None:
    assert build(junk).dropped == {"malformed_task": 1}


@pytest.mark.parametrize("data", [None, 7, "text", [], {"other": "text"}])
def test_counts_a_task_without_data(data: Any) -> None:
    assert build({"id": 1, "data": data, "annotations": [annotation("A")]}).dropped == {"no_text": 1}


@pytest.mark.parametrize("annotations", [None, 7, "x", {}, [None], [7], [[]], [{"result": 7}]])
def test_malformed_annotations_never_raise(annotations: Any) -> None:
    assert build({"id": 1, "data": {"body": "one"}, "annotations": annotations}).examples == ()


def test_equal_texts_become_one_example() -> None:
    dataset = build(task(9, " cafe\u0301\n", annotation("A", 19)), task(3, "café", annotation("A", 13)))
    (example,) = dataset.examples
    assert (example.task_id, example.text, example.annotation_ids) == (3, "café", (13, 19))
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
    assert (example.label, example.task_id, example.annotation_ids) == ("B", 2, (4, 5))
    assert dataset.dropped == {"duplicate_text": 1, "outvoted_duplicate": 1}


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


def test_a_repeated_task_counts_once_in_its_last_state() -> None:
    """A page that shifts while it is read brings a task twice."""
    old = task(1, "one", annotation("A"), updated_at="2026-01-01T00:00:00Z")
    new = task(1, "one", annotation("B"), updated_at="2026-01-01T00:00:00.5Z")
    for tasks in ((old, new), (new, old)):
        dataset = build(*tasks)
        assert labels_of(dataset) == {"one": "B"}
        assert dataset.dropped == {"repeated_task": 1}


TASKS = st.lists(
    st.builds(
        task,
        st.integers(1, 8),
        st.sampled_from(["one", "one ", "One", "two", "three", None, 7, "?"]),
        st.builds(
            annotation, st.sampled_from(["A", "B", "gone"]), st.integers(1, 4), ground_truth=st.booleans()
        ),
        st.builds(annotation, st.sampled_from(["A", "B"]), st.integers(1, 4), was_cancelled=st.booleans()),
    )
    | st.sampled_from([None, {}, {"id": 3}]),
    max_size=8,
)


@given(TASKS, st.randoms())
def test_the_order_of_tasks_does_not_matter(tasks: list[Any], random: Any) -> None:
    shuffled = list(tasks)
    random.shuffle(shuffled)
    assert build(*shuffled) == build(*tasks)


@given(TASKS)
def test_every_task_is_an_example_or_counted(tasks: list[Any]) -> None:
    dataset = build(*tasks)
    by_task = (
        "malformed_task",
        "repeated_task",
        "no_text",
        "duplicate_text",
        "outvoted_duplicate",
        "conflicting_duplicates",
    )
    counted = sum(dataset.dropped.get(name, 0) for name in by_task)
    unlabelled = len(tasks) - counted - len(dataset.examples)
    assert 0 <= unlabelled <= len(tasks)
    assert len(set(dataset.keys)) == len(dataset.examples)
    json.dumps([dataset.dropped, dataset.third_opinion])


def test_counts_skipped_annotations_of_unsent_tasks() -> None:
    tasks = [task(1, "one", annotation("A")), task(2, "two", annotation("A", was_cancelled=True))]
    assert build_dataset(tasks, SPACE, "hash", 7.0, skipped=3).dropped == {"cancelled": 3}
    assert build_dataset(tasks, SPACE, "hash", 7.0, skipped=0).dropped == {"cancelled": 1}


def test_two_labels_with_two_examples_are_trainable() -> None:
    dataset = build(*(task(number, f"text {number}", annotation("AB"[number % 2])) for number in range(4)))
    check_trainable(dataset, SPACE)  # must not raise


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ([], "No text has been labelled yet: 2 labels with 2 examples each are needed."),
        (
            [task(1, "one", annotation("A", was_cancelled=True)), task(2, None, annotation("A"))],
            (
                "No label counts yet: 2 labels with 2 examples each are needed. 1 annotation does not count: skipped. "
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
