"""labels.examples: one example for each text, by the rule for votes."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Uncounted
from services.core.labels.annotations import Vote, decide
from services.core.labels.examples import Examples, examples_of
from services.core.labels.index import EMPTY, LabelIndex
from services.core.labels.rows import GROUND_TRUTH, LabelRow, label_row
from services.core.labels.uncounted import Cause
from tests.core.labels.rows import ROWS, SPACE, annotation, task


def _examples(*tasks: dict[str, Any]) -> Examples:
    return examples_of(LabelIndex.of(row for one in tasks if (row := label_row(SPACE, one))))


def _number(row: LabelRow) -> int:
    assert isinstance(row.label, int)
    return row.label


@given(st.lists(ROWS, max_size=20))
def test_each_text_has_the_label_that_its_tasks_decide(rows: list[LabelRow]) -> None:
    index = LabelIndex.of(rows)
    groups: defaultdict[int, list[LabelRow]] = defaultdict(list)
    for row in index:
        if row.text_key and _number(row) >= 0:
            groups[row.text_key].append(row)
    expected, causes, tied = [], Counter[str](), set()
    for key in sorted(groups):
        tasks = groups[key]
        votes = [Vote((SPACE.labels[_number(row)],), bool(row.flags & GROUND_TRUTH), ()) for row in tasks]
        if winners := decide(votes):
            agreeing = [row for row in tasks if (SPACE.labels[_number(row)],) == winners[0].labels]
            expected.append((key, agreeing[0].task, winners[0].labels[0]))
            causes["duplicate_text"] += len(agreeing) - 1
            causes["outvoted_duplicate"] += len(tasks) - len(agreeing)
        else:
            causes["conflicting_duplicates"] += len(tasks)
            tied |= {row.task for row in tasks}
    found = examples_of(index)
    assert [
        (int(row["text_key"]), int(row["task"]), SPACE.labels[row["label"]]) for row in found.rows
    ] == expected
    assert {name: found.causes.get(Cause(name), 0) for name in causes} == dict(causes)
    assert tied <= set(found.third_opinion.tolist())
    assert len(found.agreeing) == len(expected) + causes["duplicate_text"]


def test_nothing_gives_no_examples() -> None:
    found = examples_of(EMPTY)
    assert found.counts(SPACE) == {"A": 0, "B": 0, "C": 0}
    assert found.not_counted(SPACE, 0) == ()


def test_counts_are_of_texts() -> None:
    found = _examples(
        task(1, annotation("A")), task(2, annotation("A"), text="text 1"), task(3, annotation("B"))
    )
    assert found.counts(SPACE) == {"A": 1, "B": 1, "C": 0}
    assert found.agreeing.tolist() == [0, 1, 2]


def test_what_does_not_count_is_summed_by_reason() -> None:
    found = _examples(
        task(1, annotation("A", 1), annotation("B", 2)),
        task(2, annotation("D")),
        {**task(3, annotation("A")), "data": {}},
    )
    assert found.third_opinion.tolist() == [1]
    assert found.not_counted(SPACE, 4) == (
        Uncounted("foreign_label", 1, ('"D"',)),
        Uncounted("cancelled", 4),
        Uncounted("tied", 2),
        Uncounted("no_text", 1),
    )
