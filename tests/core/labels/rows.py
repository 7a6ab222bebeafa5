"""Labelled tasks as Label Studio describes them, and strategies for rows of the label index."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from services.core.domain import Counts, LabelSpace, LabelState
from services.core.labels.rows import COUNTED, GROUND_TRUTH, TIE, LabelRow
from services.core.labels.uncounted import Cause

SPACE = LabelSpace("c", "t", "$body", ("A", "B", "C"))
COUNTS = Counts(2, 3, 1, "2026-01-01T00:00:00Z", 9)
STATE = LabelState((), SPACE, "hash", "", 0, COUNTS, 7.0)

_CAUSES = st.lists(
    st.tuples(
        st.builds(Cause, st.sampled_from(["empty", "foreign_label"]), st.sampled_from(["", "D"])),
        st.integers(1, 3),
    ),
    max_size=2,
    unique_by=lambda one: one[0],
).map(lambda found: tuple(sorted(found)))

ROWS = st.builds(
    LabelRow,
    task=st.integers(1, 12),
    text_key=st.integers(0, 3) | st.just(2**64 - 1),
    signature=st.integers(0, 2) | st.just(2**48 - 1),
    newest_annotation=st.integers(0, 2**40),
    label=st.integers(-1, 2),
    causes=_CAUSES,
    changed_at=st.integers(0, 2**32 - 1),
    annotations=st.integers(1, 2**16 - 1),
    flags=st.sampled_from([0, COUNTED, COUNTED | TIE, GROUND_TRUTH, COUNTED | GROUND_TRUTH]),
)


def annotation(label: str, number: int = 1, **more: Any) -> dict[str, Any]:
    region = {"from_name": "c", "to_name": "t", "type": "choices", "value": {"choices": [label]}}
    stamp = "2026-01-01T00:00:00Z"
    return {"id": number, "completed_by": number, "result": [region], "updated_at": stamp, **more}


def task(number: int, *annotations: dict[str, Any], text: str = "") -> dict[str, Any]:
    return {"id": number, "data": {"body": text or f"text {number}"}, "annotations": list(annotations)}
