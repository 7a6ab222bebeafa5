"""What is shown of a report: of many labels the weakest, of earlier releases what they have."""

from __future__ import annotations

from services.adapter.pages.report_view import MANY_LABELS, WEAKEST, build_report_view, weakest_labels
from services.core.domain import Estimate, LabelMetrics, Report

NOTHING = Estimate(0, 0, 0.0, 1.0, 0.0, "cross-fit")


def rows_of(count: int) -> tuple[LabelMetrics, ...]:
    return tuple(LabelMetrics(f"label {n}", 9, 9, f1=((7 * n) % count) / count) for n in range(count))


def test_few_labels_have_no_weakest() -> None:
    assert weakest_labels(rows_of(MANY_LABELS)) == ()


def test_of_many_labels_the_weakest_come_first() -> None:
    rows = rows_of(150)
    found = weakest_labels(rows)
    assert len(found) == WEAKEST
    assert [row.f1 for row in found] == sorted(row.f1 or 0.0 for row in rows)[:WEAKEST]


def test_labels_with_too_few_texts_are_not_called_weak() -> None:
    few = tuple(LabelMetrics(f"few {n}", 2, 2, f1=0.0, note="too few to judge") for n in range(30))
    assert weakest_labels((*few, LabelMetrics("A", 9, 9, f1=0.4))) == (LabelMetrics("A", 9, 9, f1=0.4),)


def test_an_empty_report_shows_nothing() -> None:
    found = build_report_view(Report(), NOTHING)
    assert (found.cut, found.near_duplicates, found.annotators) == ("", "", "")
    assert (found.pairs, found.matrix, found.diagram, found.weakest, found.third_opinions) == (
        (),
        None,
        None,
        (),
        0,
    )


def test_third_opinions_are_counted_or_all_listed() -> None:
    assert build_report_view(Report(third_opinion=(1, 2)), NOTHING).third_opinions == 2
    assert (
        build_report_view(Report(third_opinion=(1, 2), third_opinions=5000), NOTHING).third_opinions == 5000
    )
