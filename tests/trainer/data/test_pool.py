"""data.pool: the pool has the unlabelled tasks, whatever changed and wherever a read was cut off."""

from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace
from services.core.features import key_array
from services.core.labels import text_key
from services.core.pool import EMPTY, Pool
from services.trainer.data import pool as subject
from services.trainer.data.pool import PoolReader
from tests.support.labelstudio import FakeLabelStudio

SPACE = LabelSpace("label", "text", "$text", ("card", "loan", "other"))
_STEPS = st.lists(
    st.tuples(st.sampled_from(["add", "label", "unlabel", "edit", "delete"]), st.integers(1, 12)), max_size=8
)
_READS = st.lists(st.tuples(_STEPS, st.integers(0, 4)), max_size=5)


def _world(tasks: int = 0) -> FakeLabelStudio:
    source = FakeLabelStudio(page_size=2)
    source.add_project()
    for _ in range(tasks):
        source.add_task()
    return source


def _reader(source: FakeLabelStudio, pool: Pool = EMPTY, space: LabelSpace = SPACE) -> PoolReader:
    return PoolReader(source, 1, space, pool)


def _read(source: FakeLabelStudio, pool: Pool = EMPTY, space: LabelSpace = SPACE) -> Pool:
    reader = _reader(source, pool, space)
    for _ in reader.changes(source.project(1)[1]):
        pass
    return reader.pool


def _change(source: FakeLabelStudio, kind: str, task: int) -> None:
    if kind == "add":
        source.add_task()
    elif task not in source.tasks[1]:
        return
    elif kind == "edit":
        source.tasks[1][task].update(data={"text": f"edited {source.ticks}"}, updated_at=source._stamp())
    else:
        {"label": lambda: source.label(task, "card"), "unlabel": lambda: source.unlabel(task)}.get(
            kind, lambda: source.delete_task(task)
        )()


def _unlabelled(source: FakeLabelStudio) -> dict[int, str]:
    rows = source.tasks[1].items()
    return {number: row["data"]["text"] for number, row in rows if not row["annotations"]}


def _keys(pool: Pool) -> dict[int, bytes]:
    return {int(task): key.tobytes() for task, key in zip(pool.tasks, pool.keys, strict=True)}


def _expected(texts: dict[int, str]) -> dict[int, bytes]:
    return {task: key_array([text_key(text)]).tobytes() for task, text in texts.items()}


@given(_READS)
def test_any_changes_and_cut_reads_give_the_pool(reads: list[tuple[list[tuple[str, int]], int]]) -> None:
    source, pool = _world(tasks=5), EMPTY
    for steps, pages in reads:
        for step in steps:
            _change(source, *step)
        reader = _reader(source, pool)
        for _ in islice(reader.changes(source.project(1)[1]), pages):
            pass
        pool = reader.pool
    for _ in range(2):  # the first one may only complete a read that was cut off
        pool = _read(source, pool)
    found, expected = _keys(pool), _expected(_unlabelled(source))
    assert {task: key for task, key in found.items() if task in expected} == expected
    reader = _reader(source, pool)
    labelled = [task for task, row in source.tasks[1].items() if row["annotations"]]
    reader.pool = reader.pool.without(np.array(labelled, np.int64))
    reader.reconcile(source.project(1)[1])  # finds deleted tasks
    assert _keys(reader.pool) == expected


def test_second_read_asks_for_what_changed_only() -> None:
    source = _world(tasks=9)
    pool = _read(source)
    source.reads.clear()
    assert _keys(_read(source, pool)) == _keys(pool)
    assert source.reads == ["project"]
    source.add_task()
    source.reads.clear()
    assert len(_read(source, pool)) == 10
    assert source.reads == ["project", "unlabelled pages"]


def test_texts_come_with_their_pages_newest_first() -> None:
    source = _world(tasks=3)
    pages = [found.texts for found in _reader(source).changes(source.project(1)[1])]
    assert pages == [["text number 3", "text number 2"], ["text number 1"]]


def test_unreadable_text_has_no_key() -> None:
    source = _world(tasks=2)
    source.tasks[1][1]["data"] = {"text": " "}
    reader = _reader(source)
    pages = list(reader.changes(source.project(1)[1]))
    assert [found.texts for found in pages] == [["text number 2"]]
    assert len(pages[0].keys) == 1
    assert reader.pool.has_text.tolist() == [False, True]


def test_another_variable_starts_the_pool_anew() -> None:
    source = _world(tasks=2)
    pool = _read(source)
    other = LabelSpace("label", "text", "$body", ("card",))
    assert not _read(source, pool, other).has_text.any()
    assert len(_read(source, pool, LabelSpace("other", "text", "$text", ("x",)))) == 2


def test_first_read_ends_at_the_newest_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "MAX_TASKS", 4)
    monkeypatch.setattr("services.core.pool.MAX_TASKS", 4)
    source = _world(tasks=20)
    pool = _read(source)
    assert pool.tasks.tolist() == [17, 18, 19, 20]
    assert source.reads.count("unlabelled pages") <= 3
    assert pool.cursor


def test_deleted_and_labelled_tasks_leave_with_their_texts() -> None:
    source = _world(tasks=4)
    reader = _reader(source, _read(source))
    source.delete_task(2)
    source.label(3, "card")
    found = reader.texts(np.array([2, 3, 4]))
    assert found.texts == ["text number 4"]
    assert reader.pool.tasks.tolist() == [1, 4]


def test_equal_counts_list_no_ids() -> None:
    source = _world(tasks=4)
    reader = _reader(source, _read(source))
    reader.reconcile(source.project(1)[1])
    assert "all unlabelled ids" not in source.reads


def test_task_whose_transaction_ended_late_is_found() -> None:
    source = _world(tasks=2)
    pool = _read(source)
    late = source.add_task()
    source.tasks[1][late]["updated_at"] = source.tasks[1][1]["updated_at"]  # before the cursor
    reader = _reader(source, _read(source, pool))
    assert late not in reader.pool.tasks
    reader.reconcile(source.project(1)[1])
    assert late in reader.pool.tasks
