"""Labels are compared with those of the last run that has any."""

from __future__ import annotations

from services.adapter.training.baseline import BaselineLabels, BaselineReader, BaselineRun, compare
from services.core.domain import Snapshot
from services.core.labels.index import Baseline, LabelIndex
from services.core.labels.rows import LabelRow
from services.core.labels.segments import LabelStore
from services.core.runs import Runs
from tests.core.labels.rows import SPACE, STATE
from tests.support.store import MemoryStore


def build_index(*tasks: int, mark: int = 1) -> LabelIndex:
    return LabelIndex.of(LabelRow(task, task, mark, 0, 0, (), 100 + task, 1, 1) for task in tasks)


def build_baseline(labels: tuple[str, ...] = ("A", "gone"), control: str = "c") -> BaselineLabels:
    index = build_index(1, 2, 3)
    return BaselineLabels("1-1", Baseline.of(index), index.digest, labels, control, "hash")


def test_changes_are_counted_from_the_baseline() -> None:
    found = compare(build_index(1, 2, 4), SPACE, "c", build_baseline())
    assert (found.changed, found.oldest_change) == (2, 104.0)
    assert (found.lost_labels, found.switched_control) == (("gone",), "")


def test_without_a_baseline_every_label_is_new() -> None:
    assert compare(build_index(1, 2), SPACE, "c", None).changed == 2


def test_another_control_makes_every_label_new() -> None:
    found = compare(build_index(1, 2), SPACE, "c", build_baseline(control="mood"))
    assert (found.changed, found.lost_labels) == (2, ())
    assert found.switched_control == "the trained control changed from 'mood' to 'c'"


def test_an_unknown_control_is_not_another_one() -> None:
    assert compare(build_index(1, 2, 3), SPACE, "c", build_baseline(control="")).changed == 0


def test_the_first_run_with_labels_is_found() -> None:
    store = MemoryStore()
    state = LabelStore(store, "1-5").write(STATE, build_index(1, 2))
    Runs(store).write_snapshot("1-2", Snapshot({"1": "0000000000ab"}, "hash", ("A",), 0.0))
    runs = (BaselineRun("1-3"), BaselineRun("1-2"), BaselineRun("1-1", state))
    reader = BaselineReader(store)
    for _ in range(2):
        found = reader.find("1-5", runs)
        assert found
        assert (found.run, found.tasks.signatures.tolist()) == ("1-2", [0xAB])
    newer = reader.find("1-5", (BaselineRun("1-4", state), *runs))
    assert newer
    assert (newer.run, newer.digest, newer.labels) == ("1-4", state.digest, SPACE.labels)


def test_lost_segments_are_no_baseline() -> None:
    store = MemoryStore()
    state = LabelStore(store, "1-5").write(STATE, build_index(1, 2))
    store.data.clear()
    assert BaselineReader(store).find("1-5", (BaselineRun("1-1", state),)) is None
