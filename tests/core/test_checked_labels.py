"""Labels that people have checked since a version listed them are left out of its list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.core.checked_labels import without_checked
from services.core.domain import SuspectLabel, SuspectLabels
from services.core.labels.index import EMPTY, LabelIndex
from services.core.labels.rows import COUNTED, GROUND_TRUTH, NO_LABEL, LabelRow
from services.core.labels.uncounted import Cause

LISTED = SuspectLabel(7, 12, 0, 1, 0.02, 0.9, changed_at=1000)
FOUND = SuspectLabels((LISTED,), 5, confirmed=2)
ROW = LabelRow(7, 1, 1, 12, 0, (), 1000, 1, COUNTED)
OUTVOTED = ((Cause("outvoted"), 1),)


@pytest.mark.parametrize(
    ("change", "is_checked"),
    [
        ({}, False),
        ({"changed_at": 1001}, True),
        ({"changed_at": 1001, "label": 1, "newest_annotation": 13}, True),
        ({"changed_at": 1001, "label": NO_LABEL, "newest_annotation": 0}, True),
        ({"flags": COUNTED | GROUND_TRUTH}, True),
        ({"changed_at": 1001, "annotations": 3, "causes": OUTVOTED}, False),
        ({"changed_at": 1001, "annotations": 3, "causes": OUTVOTED, "newest_annotation": 13}, True),
        ({"task": 8}, True),
        ({"task": 6, "changed_at": 2000}, True),
    ],
)
def test_what_was_edited_since_is_left_out(change: dict[str, Any], is_checked: bool) -> None:
    found = without_checked(FOUND, LabelIndex.of([ROW._replace(**change)]))
    if is_checked:
        assert found == replace(FOUND, rows=(), count=4, checked=1)
    else:
        assert found == FOUND


def test_tasks_without_any_annotation_left_are_left_out() -> None:
    assert without_checked(FOUND, EMPTY).rows == ()


def test_lists_of_an_earlier_release_stay() -> None:
    found = SuspectLabels((replace(LISTED, changed_at=0),), 1)
    assert without_checked(found, EMPTY) == found
