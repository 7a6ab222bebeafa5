"""labels.segments: what is read back is what was written, whatever deltas lie between."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core import documents
from services.core.domain import LabelState
from services.core.errors import CorruptLabels, UnknownFormat
from services.core.labels import segments
from services.core.labels.index import EMPTY, LabelIndex
from services.core.labels.rows import LabelRow
from services.core.labels.segments import LabelStore
from services.core.store.files import FileStore
from tests.core.labels.rows import ROWS, STATE

_STEPS = st.lists(
    st.tuples(st.lists(ROWS, max_size=5), st.lists(st.integers(1, 14), max_size=3)), max_size=10
)


def _labels(folder: str | Path) -> LabelStore:
    return LabelStore(FileStore(Path(folder)), "1-5")


def _row(number: int) -> LabelRow:
    return LabelRow(number, number, 1, 0, 0, (), 0, 1, 1)


@settings(deadline=None, max_examples=50)
@given(_STEPS, st.integers(1, 6), st.integers(1, 20))
def test_any_deltas_give_the_index_built_from_scratch(
    steps: list[tuple[list[LabelRow], list[int]]], deltas: int, small: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "_MAX_DELTAS", deltas)
        patch.setattr(segments, "_SMALL", small)
        labels, index = _labels(folder), EMPTY
        state: LabelState | None = None
        for upserts, removed in steps:
            before = (state, index) if state else None
            index = index.upsert(upserts, removed)
            state = labels.write(STATE, index, before)
            assert len(state.segments) <= deltas + 1
            assert labels.head() == state
            assert list(labels.load(state)) == list(index)
            assert list(LabelIndex.of(index)) == list(index)


def test_labels_of_a_newer_release_are_refused(tmp_path: Path) -> None:
    """A request of this format may name labels of a newer one."""
    with pytest.raises(UnknownFormat, match=r"project 1-5 have format 2, .*: upgrade Fitloop"):
        _labels(tmp_path).load(replace(STATE, format=2))


def test_a_state_survives_json() -> None:
    assert documents.load(LabelState, documents.dump(STATE), "head.json") == STATE


def test_a_change_is_a_small_delta(tmp_path: Path) -> None:
    labels, index = _labels(tmp_path), LabelIndex.of(map(_row, range(1, 5000)))
    first = labels.write(STATE, index)
    second = labels.write(STATE, index.upsert([_row(7)._replace(signature=2)], [9]), (first, index))
    assert second.segments[0] == first.segments[0]
    assert (second.segments[1].rows, second.segments[1].removed) == (1, 1)
    assert second.segments[1].size < 2000
    assert second.labelled == 4998


def test_unchanged_labels_write_no_segment(tmp_path: Path) -> None:
    labels, index = _labels(tmp_path), LabelIndex.of([_row(1)])
    first = labels.write(STATE, index)
    assert labels.write(replace(STATE, read_at=9.0), index, (first, index)).segments == first.segments


def test_there_is_no_head_at_first(tmp_path: Path) -> None:
    assert _labels(tmp_path).head() is None


def test_a_broken_head_is_no_head(tmp_path: Path) -> None:
    labels = _labels(tmp_path)
    labels.store.write("projects/1-5/labels/head.json", b"{")
    assert labels.head() is None


@pytest.mark.parametrize("damage", ["missing", "changed", "empty"])
def test_a_damaged_segment_is_refused(tmp_path: Path, damage: str) -> None:
    labels = _labels(tmp_path)
    state = labels.write(STATE, LabelIndex.of([_row(1)]))
    key = f"projects/1-5/labels/{state.segments[0].sha256}.safetensors"
    data = {"changed": labels.store.read(key) + b" ", "empty": b""}
    labels.store.delete(key)
    if damage in data:
        labels.store.write(key, data[damage])
    with pytest.raises(CorruptLabels):
        labels.load(state)


def test_other_labels_than_the_state_names_are_refused(tmp_path: Path) -> None:
    labels = _labels(tmp_path)
    state = labels.write(STATE, LabelIndex.of([_row(1)]))
    with pytest.raises(CorruptLabels, match="digest"):
        labels.load(replace(state, digest="0"))


def test_bytes_that_are_no_segment_are_refused() -> None:
    with pytest.raises(CorruptLabels):
        segments._decode(b"\x00" * 64, "a key")


def test_old_segments_that_nothing_names_are_deleted(tmp_path: Path) -> None:
    labels = _labels(tmp_path)
    old = labels.write(STATE, LabelIndex.of([_row(1)]))
    run = labels.write(STATE, LabelIndex.of([_row(2)]))
    head = labels.write(STATE, LabelIndex.of([_row(3)]))
    assert labels.delete_unreferenced([head, run], now=0.0) == 0
    for path in tmp_path.rglob("*.safetensors"):
        os.utime(path, (0, 0))
    assert labels.delete_unreferenced([head, run], now=10_000.0) == 1
    assert len(labels.load(run)) == 1
    with pytest.raises(CorruptLabels):
        labels.load(old)
