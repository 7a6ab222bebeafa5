"""Which annotations are recorded, with a suggestion or without one on purpose, and how records are kept."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.training.help_records import (
    EMPTY,
    MAX_RECORDS,
    RECORD,
    RIGHT,
    UNKNOWN,
    WINDOW_SECONDS,
    WRONG,
    RecordStore,
    made_with_predictions,
    merged,
    record,
)
from tests.adapter.training.help_tasks import (
    BLIND_TEXT,
    SHARE,
    SHOWN_TEXT,
    annotation,
    prediction,
    task,
)
from tests.support.fakes import SPACE
from tests.support.store import MemoryStore

NOW = 1_800_000_000.0


def kinds(*tasks: dict[str, object], share: float = SHARE) -> list[bool]:
    return [made.blind for made in made_with_predictions(SPACE, tasks, share)]


def test_concealed_prediction_of_a_blind_text_is_blind() -> None:
    assert kinds(task(BLIND_TEXT, [annotation("Positive", 10)], [prediction(None, 5)])) == [True]
    assert kinds(task(SHOWN_TEXT, [annotation("Positive", 10)], [prediction("Neutral", 5)])) == [False]


def test_blind_text_with_a_suggestion_was_shown_one() -> None:
    """It was predicted before the share was set."""
    assert kinds(task(BLIND_TEXT, [annotation("Positive", 10)], [prediction("Neutral", 5)])) == [False]


@pytest.mark.parametrize(
    "row",
    [
        task(SHOWN_TEXT, [annotation("Positive", 10)], [prediction(None, 5)]),  # of another program
        task(BLIND_TEXT, [annotation("Positive", 10)], []),
        task(BLIND_TEXT, [annotation("Positive", 10)], [prediction(None, 11)]),
        task(BLIND_TEXT, [annotation("Elsewhere", 10)], [prediction(None, 5)]),
        task(BLIND_TEXT, [annotation("Positive", 10, was_cancelled=True)], [prediction(None, 5)]),
        {"id": 1},
    ],
)
def test_other_annotations_are_not_recorded(row: dict[str, object]) -> None:
    assert kinds(row) == []


def test_no_label_is_a_suggestion_where_a_text_may_have_several() -> None:
    several = replace(SPACE, multiple=True, empty_counts=True)
    rows = [
        task(text, [annotation("Positive", 10)], [prediction(None, 5)]) for text in (BLIND_TEXT, SHOWN_TEXT)
    ]
    assert [made.blind for made in made_with_predictions(several, rows, SHARE)] == [True, False]


def test_the_prediction_that_was_begun_with_counts() -> None:
    stored = [prediction("Neutral", 1, 1), prediction(None, 5, 2)]
    begun = annotation("Positive", 10, parent_prediction=1)
    assert kinds(task(BLIND_TEXT, [begun], stored)) == [False]
    assert kinds(task(BLIND_TEXT, [annotation("Positive", 10)], stored)) == [True]


def test_record_of_an_annotation_with_a_suggestion() -> None:
    (made,) = made_with_predictions(
        SPACE, [task(SHOWN_TEXT, [annotation("Positive", NOW, 7)], [prediction("Positive", 5)])], SHARE
    )
    assert record(SPACE, made, made.prediction) == (7, int(NOW), 1, 8.0, 0.75, 0, RIGHT)


@pytest.mark.parametrize(("answered", "outcome"), [("Positive", RIGHT), ("Neutral", WRONG), (None, UNKNOWN)])
def test_record_of_a_blind_annotation(answered: str | None, outcome: int) -> None:
    (made,) = made_with_predictions(
        SPACE, [task(BLIND_TEXT, [annotation("Positive", NOW)], [prediction(None, 5)])], SHARE
    )
    found = record(SPACE, made, prediction(answered, 5) if answered else None)
    assert found[4:] == (0.75 if answered else 0.0, 1, outcome)


@pytest.mark.parametrize("lead_time", [None, 0, -3.0, math.nan, 3601.0, "9"])
def test_unusable_seconds_are_unknown(lead_time: object) -> None:
    (made,) = made_with_predictions(
        SPACE,
        [task(SHOWN_TEXT, [annotation("Positive", 9, lead_time=lead_time)], [prediction("Positive", 5)])],
        SHARE,
    )
    assert math.isnan(record(SPACE, made, made.prediction)[3])


@pytest.mark.parametrize(("who", "number"), [(4, 4), ({"id": 5}, 5), (None, 0), ("x", 0), (2**40, 0)])
def test_annotators_are_known_by_id(who: object, number: int) -> None:
    (made,) = made_with_predictions(
        SPACE,
        [task(SHOWN_TEXT, [annotation("Positive", 9, completed_by=who)], [prediction("Positive", 5)])],
        SHARE,
    )
    assert record(SPACE, made, made.prediction)[2] == number


def row(number: int, at: float = NOW, answer: int = RIGHT, p1: float = 0.5) -> tuple[object, ...]:
    return (number, int(at), 1, 8.0, p1, 1, answer)


ROWS = st.lists(st.tuples(st.integers(1, 50), st.integers(0, int(2 * WINDOW_SECONDS))), max_size=60).map(
    lambda rows: [row(number, NOW - age) for number, age in rows]
)


@given(ROWS, ROWS)
def test_merged_records_are_recent_and_each_once(
    known: list[tuple[object, ...]], new: list[tuple[object, ...]]
) -> None:
    before = merged(EMPTY, known, NOW)
    found = merged(before, new, NOW)
    assert np.array_equal(found["annotation"], np.unique(found["annotation"]))
    assert (found["made_at"] >= NOW - WINDOW_SECONDS).all()
    assert np.array_equal(merged(found, [], NOW), found)


def test_new_record_replaces_a_known_one() -> None:
    known = merged(EMPTY, [row(1, answer=WRONG)], NOW)
    assert merged(known, [row(1, answer=RIGHT)], NOW)["answer"].tolist() == [RIGHT]


def test_answer_stays_known_once_it_was() -> None:
    known = merged(EMPTY, [row(1, answer=WRONG, p1=0.25)], NOW)
    found = merged(known, [row(1, answer=UNKNOWN, p1=0.0)], NOW)
    assert found[["answer", "p1"]].tolist() == [(WRONG, 0.25)]


def test_newest_records_are_kept() -> None:
    found = merged(EMPTY, [row(number) for number in range(MAX_RECORDS + 5)], NOW)
    assert (len(found), found["annotation"][0]) == (MAX_RECORDS, 5)


def test_stored_records_are_read_again() -> None:
    store = RecordStore(MemoryStore(), "5-1")
    assert len(store.load()) == 0
    rows = merged(EMPTY, [row(1), row(2, answer=UNKNOWN)], NOW)
    store.write(rows)
    assert np.array_equal(store.load(), rows)
    assert store.load().dtype == RECORD


def test_unreadable_records_are_none() -> None:
    memory = MemoryStore()
    memory.write("projects/5-1/help.safetensors", b"broken")
    assert len(RecordStore(memory, "5-1").load()) == 0
