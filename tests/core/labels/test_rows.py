"""labels.rows: what is kept of a task."""

from __future__ import annotations

from services.core.labels import signature, text_key
from services.core.labels.rows import COUNTED, GROUND_TRUTH, NO_LABEL, NO_TEXT, ROW, TIE, label_row
from services.core.labels.rows import signature_number as number_of
from services.core.labels.uncounted import Cause
from tests.core.labels.rows import SPACE, annotation, task


def test_a_row_is_small() -> None:
    assert ROW.itemsize == 47


def test_row_has_label_text_and_time() -> None:
    found = label_row(SPACE, task(7, annotation("B", 5, updated_at="2026-01-01T00:00:03.9Z")))
    assert found is not None
    assert (found.task, found.label, found.newest_annotation, found.flags) == (7, 1, 5, COUNTED)
    assert found.text_key == int(text_key("text 7")[:16], 16)
    assert found.changed_at == 1767225603


def test_signature_is_that_of_snapshots() -> None:
    given = [annotation("A", 1), annotation("A", 2)]
    found = label_row(SPACE, task(1, *given))
    assert found is not None
    assert f"{found.signature:012x}" == signature(given)


def test_task_without_text_has_none() -> None:
    found = label_row(SPACE, {**task(1, annotation("A")), "data": {}})
    assert found is not None
    assert found.text_key == NO_TEXT


def test_tie_has_no_label() -> None:
    found = label_row(SPACE, task(1, annotation("A", 1), annotation("B", 2)))
    assert found is not None
    assert (found.label, found.flags, found.annotations) == (NO_LABEL, COUNTED | TIE, 2)
    assert found.causes == ((Cause("tied"), 2),)


def test_ground_truth_is_not_counted() -> None:
    found = label_row(SPACE, task(1, annotation("A", ground_truth=True)))
    assert found is not None
    assert found.flags == GROUND_TRUTH


def test_skipped_annotations_give_no_row() -> None:
    assert label_row(SPACE, task(1, annotation("A", was_cancelled=True))) is None
    assert label_row(SPACE, task(1)) is None


def test_without_a_space_a_row_still_counts() -> None:
    found = label_row(None, task(1, annotation("A")))
    assert found is not None
    assert (found.label, found.annotations) == (NO_LABEL, 1)
    assert found.signature > 0


def test_a_broken_signature_is_no_tasks_signature() -> None:
    assert number_of("no hex") > 2**48
    assert number_of(None) == 0
