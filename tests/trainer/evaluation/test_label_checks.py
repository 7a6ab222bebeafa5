"""Which labels count as confirmed, and are not asked about again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from services.core import documents
from services.core.domain import SuspectLabel, SuspectLabels
from services.core.errors import ObjectTooLarge, StoreUnreachable
from services.core.store.files import FileStore
from services.trainer.data.dataset import Dataset
from services.trainer.evaluation.label_checks import (
    LabelCheck,
    LabelChecks,
    LabelChecksFile,
    settle,
    with_listed,
)
from tests.trainer.evaluation.datasets import SECRET, dataset_of, sets_of

KEY = "projects/1-1/label_checks.json"


def listed(*tasks: int) -> SuspectLabels:
    return SuspectLabels(tuple(SuspectLabel(task, task + 400, 0, 1, 0.1, 0.9) for task in tasks), len(tasks))


def edited(dataset: Dataset, place: int, **changes: object) -> Dataset:
    examples = list(dataset.examples)
    examples[place] = replace(examples[place], **changes)  # type: ignore[arg-type]  # fields of Example
    return replace(dataset, examples=tuple(examples))


@pytest.fixture
def dataset() -> Dataset:
    return edited(dataset_of(["A", "B", "A"]), 0, changed_at=50)


@pytest.fixture
def asked(dataset: Dataset) -> LabelChecks:
    return with_listed(LabelChecks(), listed(100), dataset)


def test_a_listed_label_is_remembered_without_its_text(dataset: Dataset, asked: LabelChecks) -> None:
    assert asked.checks == (LabelCheck(dataset.keys[0], "A", 50, 100),)
    assert SECRET not in json.dumps(documents.to_plain(asked))
    assert settle(asked, dataset) == asked
    assert not asked.confirmed


@pytest.mark.parametrize("change", [{"changed_at": 51}, {"ground_truth": True}])
def test_an_update_with_the_same_label_confirms_it(
    dataset: Dataset, asked: LabelChecks, change: dict[str, object]
) -> None:
    found = settle(asked, edited(dataset, 0, **change))
    assert found.confirmed == {(dataset.keys[0], "A")}
    assert settle(found, dataset).confirmed == found.confirmed  # whatever becomes of the annotation
    assert found.changed == 0


def test_a_changed_label_is_a_new_label(dataset: Dataset, asked: LabelChecks) -> None:
    now = edited(dataset, 0, label="B", changed_at=51)
    found = settle(asked, now)
    assert (found.checks, found.changed) == ((), 1)
    again = with_listed(found, SuspectLabels((SuspectLabel(100, 500, 1, 0, 0.1, 0.9),), 1), now)
    assert again.checks == (LabelCheck(dataset.keys[0], "B", 51, 100),)
    assert not settle(again, now).confirmed


def test_a_confirmed_label_that_is_changed_may_be_asked_about(dataset: Dataset, asked: LabelChecks) -> None:
    confirmed = settle(asked, edited(dataset, 0, changed_at=51))
    found = settle(confirmed, edited(dataset, 0, label="B", changed_at=52))
    assert (found.confirmed, found.changed) == (frozenset(), 0)


def test_a_label_listed_again_is_confirmed_since_the_first_time(dataset: Dataset, asked: LabelChecks) -> None:
    now = edited(dataset, 0, changed_at=60)
    again = with_listed(asked, listed(100, 101), now)
    assert [check.changed_at for check in again.checks] == [50, 0]
    assert settle(again, now).confirmed == {(dataset.keys[0], "A")}


def test_another_task_of_the_text_confirms_nothing(dataset: Dataset, asked: LabelChecks) -> None:
    now = edited(dataset, 0, task_id=900, changed_at=70)  # the listed one was corrected, and is outvoted
    found = settle(asked, now)
    assert (found.confirmed, found.changed) == (frozenset(), 0)
    assert found.checks == (LabelCheck(dataset.keys[0], "A", 70, 900),)
    assert settle(found, edited(now, 0, changed_at=71)).confirmed == {(dataset.keys[0], "A")}


def test_an_outvoted_annotator_confirms_nothing(dataset: Dataset, asked: LabelChecks) -> None:
    now = edited(dataset, 0, changed_at=60, outvoted=True)
    assert settle(asked, now) == asked
    assert settle(asked, edited(now, 0, ground_truth=True)).confirmed
    assert settle(asked, edited(now, 0, outvoted=False)).confirmed  # they came to agree


def test_unconfirmed_labels_no_longer_listed_leave(dataset: Dataset, asked: LabelChecks) -> None:
    assert with_listed(asked, listed(102), dataset).checks == (LabelCheck(dataset.keys[2], "A", 0, 102),)
    confirmed = settle(asked, edited(dataset, 0, changed_at=51))
    assert with_listed(confirmed, listed(), dataset) == confirmed


@pytest.fixture
def several() -> Dataset:
    made = sets_of([("A", "B"), ("A",)])
    return replace(made, labels=("A", "B", "C"))


@pytest.fixture
def asked_several(several: Dataset) -> LabelChecks:
    rows = (SuspectLabel(100, 500, 0, None, 0.1, 0.9), SuspectLabel(101, 501, None, 1, 0.1, 0.9))
    return with_listed(LabelChecks(), SuspectLabels(rows, 2), several)


def test_of_several_labels_each_is_remembered(several: Dataset, asked_several: LabelChecks) -> None:
    first, second = several.keys
    assert asked_several.checks == (
        LabelCheck(first, "A", 0, 100),
        LabelCheck(second, "B", 0, 101, given=False),
    )
    now = edited(edited(several, 0, changed_at=1), 1, changed_at=1)
    assert settle(asked_several, now).confirmed == {(first, "A"), (second, "B")}


def test_a_removed_or_added_label_is_changed(several: Dataset, asked_several: LabelChecks) -> None:
    now = edited(edited(several, 0, labels=("B",), changed_at=1), 1, labels=("A", "B"), changed_at=1)
    assert settle(asked_several, now) == LabelChecks(changed=2)


def test_reordered_and_renamed_choices_change_nothing(several: Dataset, asked_several: LabelChecks) -> None:
    reordered = replace(edited(several, 0, labels=("B", "A")), labels=("C", "B", "A"))
    assert settle(asked_several, reordered) == asked_several
    renamed = replace(edited(several, 0, labels=("A", "new")), labels=("A", "new", "C"))
    assert settle(asked_several, renamed) == replace(asked_several, checks=asked_several.checks[:1])


def test_renamed_labels_and_deleted_texts_leave(dataset: Dataset, asked: LabelChecks) -> None:
    renamed = replace(edited(dataset, 0, label="C"), labels=("C", "B"))
    assert settle(asked, renamed) == LabelChecks()
    assert settle(asked, replace(dataset, examples=dataset.examples[1:])) == LabelChecks()


def test_the_document_survives_and_keeps_unknown_fields(tmp_path: Path, asked: LabelChecks) -> None:
    store = FileStore(tmp_path)
    file = LabelChecksFile(store, "1-1")
    assert file.read() == LabelChecks()
    file.write(asked)
    store.write(KEY, json.dumps({**json.loads(store.read(KEY)), "later": 1}).encode())
    found = file.read()
    assert found == asked
    assert found is not None
    file.write(replace(found, changed=3))
    assert json.loads(store.read(KEY))["later"] == 1


def test_a_broken_document_is_made_anew(tmp_path: Path) -> None:
    FileStore(tmp_path).write(KEY, b"{")
    assert LabelChecksFile(FileStore(tmp_path), "1-1").read() == LabelChecks()

    class TooLarge(FileStore):
        def read(self, key: str, most: int = 0) -> bytes:
            raise ObjectTooLarge(key)

    assert LabelChecksFile(TooLarge(tmp_path), "1-1").read() == LabelChecks()


def test_a_newer_or_unreachable_document_is_left_alone(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    store.write(KEY, b'{"format": 2}')
    assert LabelChecksFile(store, "1-1").read() is None

    class Away(FileStore):
        def read(self, key: str, most: int = 0) -> bytes:
            raise StoreUnreachable(key)

        def write(self, key: str, data: bytes) -> None:
            raise StoreUnreachable(key)

    away = LabelChecksFile(Away(tmp_path), "1-1")
    assert away.read() is None
    away.write(LabelChecks())  # costs a repeated question, and no version
