"""labels.index: the same labels give the same index; changes are counted from a baseline."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Snapshot
from services.core.errors import CorruptLabels
from services.core.labels.index import EMPTY, NOTHING, Baseline, LabelIndex, changed, difference
from services.core.labels.rows import NO_LABEL, NO_SIGNATURE, LabelRow
from services.core.labels.uncounted import Cause
from tests.core.labels.rows import ROWS

_STEPS = st.lists(st.tuples(st.lists(ROWS, max_size=5), st.lists(st.integers(1, 14), max_size=3)), max_size=6)


def _row(number: int, mark: int = 1, *, at: int = 0, causes: tuple[tuple[Cause, int], ...] = ()) -> LabelRow:
    return LabelRow(number, number, mark, 0, 0, causes, at, 1, 1)


@given(_STEPS)
def test_any_steps_give_the_index_of_their_result(
    steps: list[tuple[list[LabelRow], list[int]]],
) -> None:
    index, rows = EMPTY, dict[int, LabelRow]()
    for upserts, removed in steps:
        index = index.upsert(upserts, removed)
        rows = {number: row for number, row in rows.items() if number not in removed}
        rows |= {row.task: row for row in upserts}
    assert list(index) == [rows[number] for number in sorted(rows)]
    assert index.digest == LabelIndex.of(rows.values()).digest
    assert list(index.compact()) == list(index)


@given(st.lists(ROWS), st.lists(ROWS))
def test_a_difference_makes_one_of_the_other(before: list[LabelRow], after: list[LabelRow]) -> None:
    one, other = LabelIndex.of(before), LabelIndex.of(after)
    found = difference(one, other)
    assert list(one.merge(*found)) == list(other)
    assert len(difference(other, LabelIndex.of(reversed(list(other))))) == 0


@given(st.lists(ROWS), st.lists(ROWS))
def test_changes_are_those_of_signatures(before: list[LabelRow], after: list[LabelRow]) -> None:
    one, other = LabelIndex.of(before), LabelIndex.of(after)
    old = {row.task: row.signature for row in one if row.signature}
    new = {row.task: row.signature for row in other if row.signature}
    times = {row.task: row.changed_at for row in other}
    expected = {number for number in old.keys() | new.keys() if old.get(number) != new.get(number)}
    found = changed(other, Baseline.of(one))
    assert found.tasks == len(expected)
    assert found.oldest == min(
        (times[number] for number in expected & new.keys() if times[number]), default=None
    )


def test_every_label_is_new_to_nothing() -> None:
    index = LabelIndex.of([_row(1, at=9), _row(2, at=5), _row(3, NO_SIGNATURE)])
    assert changed(index, NOTHING) == (2, 5.0)
    assert changed(index, Baseline.of(index)) == (0, None)


def test_a_snapshot_of_0_1_0_is_a_baseline() -> None:
    snapshot = Snapshot({"10": "00000000000a", "9": "00000000000b"}, "hash", ("A",), 1.0)
    index = LabelIndex.of([_row(9, 0xB), _row(10, 0xA)])
    baseline = Baseline.of_snapshot(snapshot)
    assert changed(index, baseline).tasks == 0
    assert baseline.digest == index.digest


def test_digest_does_not_depend_on_labels_that_do_not_count() -> None:
    assert LabelIndex.of([_row(1), _row(2, NO_SIGNATURE)]).digest == LabelIndex.of([_row(1)]).digest
    assert LabelIndex.of([_row(1)]).digest != LabelIndex.of([_row(1, 2)]).digest


def test_totals_are_label_studios() -> None:
    index = LabelIndex.of([_row(1), _row(2)._replace(annotations=3, flags=0)])
    assert index.totals == (1, 4)


def test_causes_beyond_a_thousand_lose_their_examples() -> None:
    index = EMPTY
    for start in (0, 600):
        rows = (
            _row(number, causes=((Cause("foreign_label", str(number)), 1),))
            for number in range(start, start + 600)
        )
        index = index.upsert(rows)
    assert len(index.causes) <= 1001
    assert sum(count for row in index for _, count in row.causes) == 1200


def test_memory_with_a_baseline_is_64_bytes_a_task() -> None:
    index = LabelIndex.of(_row(number) for number in range(2000))
    baseline = Baseline.of(index)
    assert (index.rows.nbytes + baseline.tasks.nbytes + baseline.signatures.nbytes) / 2000 <= 64


def test_sets_of_labels_and_single_labels_are_not_mixed() -> None:
    single, several = LabelIndex.of([_row(1)]), LabelIndex.of([_row(2)._replace(label=(0, 1))])
    without = LabelIndex.of([_row(3)._replace(label=NO_LABEL)])
    assert len(several.merge(without, several.tasks)) == len(single.merge(without, single.tasks)) == 1
    with pytest.raises(CorruptLabels, match="cannot be merged"):
        single.merge(several, single.tasks[:0])
    with pytest.raises(CorruptLabels, match="cannot be merged"):
        difference(several, single)
