"""labels.trainable: whether labels allow a model, and what is missing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Uncounted
from services.core.labels.trainable import untrainable_reason


@pytest.mark.parametrize(
    ("counts", "sentence"),
    [
        ({}, "No text has been labelled yet: 2 labels with an example each are needed."),
        ({"A": 0, "B": 0}, "No text has been labelled yet: 2 labels with an example each are needed."),
        ({"refund": 14, "B": 0}, "2 labels with examples are needed, but only 'refund' has any (14 texts)."),
        ({"A": 1}, "2 labels with examples are needed, but only 'A' has any (1 text)."),
    ],
)
def test_too_few_labels_are_reported_with_counts(counts: dict[str, int], sentence: str) -> None:
    assert untrainable_reason(counts) == sentence


@given(st.dictionaries(st.text(min_size=1, max_size=3), st.integers(0, 5), max_size=6))
def test_two_labels_with_an_example_are_needed(counts: dict[str, int]) -> None:
    assert (untrainable_reason(counts) is None) == (sum(count >= 1 for count in counts.values()) >= 2)


def test_uncounted_annotations_are_not_called_unlabelled() -> None:
    assert untrainable_reason({}, [Uncounted("cancelled", 24)], "c") == (
        "No label counts yet: 2 labels with an example each are needed. 24 annotations do not count: skipped."
    )
    assert untrainable_reason({"A": 2, "B": 2}, [Uncounted("cancelled", 24)], "c") is None


@pytest.mark.parametrize(
    ("counts", "texts", "sentence"),
    [
        ({}, 0, "No text has been labelled yet: a label is needed that one text has and another does not."),
        (
            {"A": 0},
            3,
            "A label is needed that one text has and another does not, but each of 3 texts has no label.",
        ),
        (
            {"A": 1, "B": 1},
            1,
            "A label is needed that one text has and another does not, but each of 1 text has the same labels ('A', 'B').",
        ),
        ({"A": 2, "B": 1}, 2, None),
        ({"A": 1}, 2, None),
    ],
)
def test_sets_of_labels_must_differ(counts: dict[str, int], texts: int, sentence: str | None) -> None:
    assert untrainable_reason(counts, texts=texts) == sentence
