"""Reports shrink as people check labels, and the label index is read only when it has changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.adapter.routes.checked_labels import CheckedLabels
from services.core.domain import LabelState, Report, SuspectLabel, SuspectLabels
from services.core.labels.index import LabelIndex
from services.core.labels.rows import COUNTED, LabelRow
from services.core.labels.segments import LabelStore
from services.core.store.files import FileStore
from tests.core.labels.rows import STATE

ROWS = tuple(LabelRow(task, task, task, task + 100, 0, (), 1000, 1, COUNTED) for task in range(5))
REPORT = Report(
    suspects=SuspectLabels(
        tuple(SuspectLabel(task, task + 100, 0, 1, 0.1, 0.8, changed_at=1000) for task in (1, 3)), 2
    )
)


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    found = FileStore(tmp_path)
    LabelStore(found, "1-1").write(STATE, LabelIndex.of(ROWS))
    return found


def _tasks(labels: CheckedLabels, version: str = "v") -> list[int]:
    found = labels.leave_out("1-1", version, REPORT).suspects
    assert found is not None
    return [row.task_id for row in found.rows]


def _edit(store: FileStore) -> None:
    edited = LabelIndex.of(ROWS).upsert([ROWS[3]._replace(changed_at=1500)])
    LabelStore(store, "1-1").write(STATE, edited)


def test_a_label_that_was_edited_leaves_the_list(store: FileStore) -> None:
    labels = CheckedLabels(store, lambda: 7.0)
    assert _tasks(labels) == [1, 3]
    _edit(store)
    assert _tasks(labels) == [1]
    assert _tasks(CheckedLabels(store)) == [1]


def test_segments_are_read_once(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    read, labels, loaded = LabelStore.load, CheckedLabels(store, lambda: 7.0), list[LabelState]()

    def load(labels: LabelStore, state: LabelState) -> LabelIndex:
        loaded.append(state)
        return read(labels, state)

    monkeypatch.setattr(LabelStore, "load", load)
    for version in ("a", "b", "a", "b"):
        assert _tasks(labels, version) == [1, 3]
    assert len(loaded) == 2


def test_large_indexes_are_not_read_at_every_change(store: FileStore) -> None:
    """Reading took a second, so for twenty the list stays as it was."""
    times = iter([100.0, 101.0, 120.9, 121.1, 122.0])
    labels = CheckedLabels(store, lambda: next(times))
    assert _tasks(labels) == [1, 3]
    _edit(store)
    assert _tasks(labels) == [1, 3]
    assert _tasks(labels) == [1]


def test_labels_that_cannot_be_read_leave_the_report_as_it_is(store: FileStore) -> None:
    (segment,) = (key for key in store.keys("projects/1-1/labels/") if key.endswith(".safetensors"))
    store.delete(segment)
    assert CheckedLabels(store).leave_out("1-1", "v", REPORT) is REPORT
    assert CheckedLabels(store).leave_out("2-1", "v", REPORT) == REPORT
