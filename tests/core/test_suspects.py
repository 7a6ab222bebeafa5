"""What is said about labels that may be wrong."""

from __future__ import annotations

import pytest

from services.core.domain import Report, SuspectLabel, SuspectLabels
from services.core.suspects import TOO_FEW, suspect_rows, suspects_message, suspects_url

ROW = SuspectLabel(7, 12, 0, 1, 0.02, 0.9)


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (None, ""),
        (SuspectLabels(too_few=True), TOO_FEW),
        (
            SuspectLabels(),
            "Of 90 evaluated texts, no label looks wrong to models that were not trained on the text.",
        ),
        (
            SuspectLabels((ROW,), 1),
            "Of 90 evaluated texts, 1 label looks wrong to models that were not trained on the text.",
        ),
        (
            SuspectLabels((ROW,), 3, confirmed=2, changed=1),
            "Of 90 evaluated texts, 3 labels look wrong to models that were not trained on the text. Of 3 that people have checked, 1 was changed and 2 confirmed.",
        ),
        (
            SuspectLabels((), 0, confirmed=2, checked=1),
            "Of 90 evaluated texts, no other label looks wrong to models that were not trained on the text. 1 that was listed has been checked since. Of 2 that people had checked before, 0 were changed and 2 confirmed.",
        ),
    ],
)
def test_the_number_is_said(found: SuspectLabels | None, message: str) -> None:
    assert suspects_message(Report(judged=90, suspects=found)) == message


def test_one_label_a_text_is_named_beside_another() -> None:
    (row,) = suspect_rows(Report(labels=("A", "B"), suspects=SuspectLabels((ROW,), 1)))
    assert (row.task, row.label, row.prediction) == (7, "A", "B")
    assert (row.probability, row.other_probability, row.margin) == (0.02, 0.9, 0.88)


def test_of_several_labels_one_is_missing_or_too_many() -> None:
    rows = (SuspectLabel(7, 12, 0, None, 0.02, 0.98), SuspectLabel(8, 13, None, 0, 0.1, 0.9))
    found = suspect_rows(Report(labels=("A", "B"), suspects=SuspectLabels(rows, 2)))
    assert [(row.label, row.prediction) for row in found] == [("A", "without A"), ("without A", "A")]


def test_an_earlier_report_says_nothing() -> None:
    assert suspect_rows(Report()) == ()
    assert suspects_url("http://labels.test", 1, None) == ""
    assert suspects_url("http://labels.test", 1, SuspectLabels(too_few=True)) == ""
