"""Example tasks of what gives no example."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.core.labels.index import LabelIndex
from services.core.labels.rows import NO_TEXT, LabelRow, label_row
from services.trainer.data.left_out import MAX_TASKS, tasks_by_reason
from tests.core.labels.rows import ROWS, SPACE, annotation, task


def test_tasks_are_named_by_reason() -> None:
    tasks = [
        task(1, annotation("unknown")),
        task(2, annotation("A")),
        task(3, annotation("other", 1), annotation("A", 2), annotation("A", 3), annotation("B", 4)),
        {**task(4, annotation("A")), "data": {}},
    ]
    index = LabelIndex.of(row for one in tasks if (row := label_row(SPACE, one)))
    assert tasks_by_reason(index) == {"foreign_label": (1, 3), "outvoted": (3,), "no_text": (4,)}


@given(st.lists(ROWS, max_size=12))
def test_a_few_tasks_of_every_reason_are_named(rows: list[LabelRow]) -> None:
    index = LabelIndex.of(rows)
    expected: dict[str, list[int]] = {}
    for row in index:
        reasons = {cause.reason for cause, _ in row.causes} | (
            {"no_text"} if row.text_key == NO_TEXT else set()
        )
        for reason in reasons:
            expected.setdefault(reason, []).append(row.task)
    assert tasks_by_reason(index) == {reason: tuple(tasks[:MAX_TASKS]) for reason, tasks in expected.items()}
