"""Annotations are recorded as polls find them, and the model's answers to blind ones are asked for by version."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from services.adapter.state.help import HelpMeasures
from services.adapter.training.help_monitor import HelpMonitor
from services.adapter.training.help_records import RIGHT, UNKNOWN, WRONG, RecordStore
from services.core.domain import LabelSpace
from services.core.errors import StoreUnreachable
from tests.adapter.training.help_tasks import BLIND_TEXT, SHARE, SHOWN_TEXT, annotation, prediction, task
from tests.support.fakes import SPACE
from tests.support.store import MemoryStore

NOW = 1_800_000_000.0
Asked = list[tuple[str, list[int]]]


def monitor(store: MemoryStore, answer: str | None = "Positive") -> tuple[HelpMonitor, Asked]:
    """Return a monitor whose model answers each blind task with one label; None: with nothing."""
    asked: Asked = []

    def answers(_: str, __: LabelSpace, version: str, tasks: Any) -> Mapping[int, Any]:
        asked.append((version, [one["id"] for one in tasks]))
        return {one["id"]: prediction(answer, 0) for one in tasks} if answer else {}

    return HelpMonitor(store, SHARE, answers), asked


def blind(number: int, label: str = "Positive", version: str = "v-1") -> dict[str, Any]:
    shown = prediction(None, NOW - 99, version=version)
    return task(BLIND_TEXT, [annotation(label, NOW - 9, number)], [shown], number)


def test_blind_annotations_are_compared_with_the_version_they_had() -> None:
    store = MemoryStore()
    found, asked = monitor(store)
    shown = task(SHOWN_TEXT, [annotation("Neutral", NOW - 9, 4)], [prediction("Positive", NOW - 99)], 4)
    found.update("5-1", SPACE, [blind(1), blind(2, "Neutral"), blind(3, version="v-2"), shown], NOW)
    assert asked == [("v-1", [1, 2]), ("v-2", [3])]
    rows = RecordStore(store, "5-1").load()
    assert rows["answer"].tolist() == [RIGHT, WRONG, RIGHT, WRONG]
    assert rows["blind"].tolist() == [1, 1, 1, 0]
    assert (found.value.blind, found.value.blind_right, found.value.shown) == (3, 2, 1)


def test_records_outlive_the_process() -> None:
    store = MemoryStore()
    monitor(store)[0].update("5-1", SPACE, [blind(number) for number in range(1, 16)], NOW)
    later, _ = monitor(store)
    later.update("5-1", SPACE, [blind(number) for number in range(16, 31)], NOW)
    assert later.value.blind == 30
    assert later.value.accuracy


def test_an_answer_may_be_missing() -> None:
    store = MemoryStore()
    monitor(store, None)[0].update("5-1", SPACE, [blind(1)], NOW)
    assert RecordStore(store, "5-1").load()["answer"].tolist() == [UNKNOWN]


def test_unchanged_records_are_not_written() -> None:
    store = MemoryStore()
    found, _ = monitor(store)
    found.update("5-1", SPACE, [blind(1)], NOW)
    before = store.changes
    found.update("5-1", SPACE, [blind(1)], NOW)
    assert store.changes == before


def test_nothing_is_read_or_stored_without_a_share() -> None:
    store = MemoryStore()
    found = HelpMonitor(store)
    found.update("5-1", SPACE, [blind(1)], NOW)
    assert found.value == HelpMeasures(0.0)
    assert not list(store.keys("projects/"))


def test_measures_are_forgotten_with_the_question() -> None:
    found, _ = monitor(MemoryStore())
    found.update("5-1", SPACE, [blind(1)], NOW)
    found.reset()
    assert found.value == HelpMeasures(SHARE)


def test_errors_of_the_store_are_raised() -> None:
    store = MemoryStore()
    store.away = StoreUnreachable("away")
    with pytest.raises(StoreUnreachable):
        monitor(store)[0].update("5-1", SPACE, [blind(1)], NOW)
