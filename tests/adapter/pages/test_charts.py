"""The learning curve: what is drawn of versions, and where."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.adapter.pages.charts import (
    HEIGHT,
    MAX_LABELS,
    SHADES,
    WIDTH,
    build_confusion_matrix,
    build_learning_curve,
)
from services.core.domain import Estimate, Manifest, Report
from services.trainer.evaluation.metrics import wilson_interval
from tests.support.manifests import build_manifest


def version(number: int, texts: int, right: int, judged: int, *, promote: bool = True) -> Manifest:
    made = build_manifest(f"v-{number}")
    low, high = wilson_interval(right, judged)
    return replace(
        made,
        estimate=Estimate(judged, right, low, high, 0.5, "cross-fit"),
        gate=replace(made.gate, promote=promote),
        lineage=replace(made.lineage, texts=texts),
    )


def test_without_a_version_that_says_anything_there_is_no_curve() -> None:
    assert build_learning_curve([], None) is None
    assert build_learning_curve([version(1, 19, 10, 19)], "v-1") is None


def test_one_version_stands_in_the_middle_and_is_described() -> None:
    curve = build_learning_curve([version(1, 40, 30, 40)], "v-1")
    assert curve is not None
    (point,) = curve.points
    assert point.kind == "served"
    assert abs(point.x - WIDTH / 2) < 40
    assert point.high < point.y < point.low
    assert curve.description == "One evaluated version. v-1: accuracy 75 % (60–86), 40 training texts."


def test_a_held_version_is_a_point_and_not_on_the_line() -> None:
    made = [version(1, 40, 20, 40), version(2, 60, 10, 60, promote=False), version(3, 80, 60, 80)]
    curve = build_learning_curve(made, "v-3")
    assert curve is not None
    assert [point.kind for point in curve.points] == ["promoted", "held", "served"]
    assert len(curve.line.split()) == 2


def test_versions_with_too_few_judged_texts_are_counted() -> None:
    curve = build_learning_curve([version(1, 10, 5, 10), version(2, 40, 30, 40)], "v-2")
    assert curve is not None
    assert curve.omitted == 1


@given(
    st.lists(st.tuples(st.integers(1, 10**6), st.integers(20, 400), st.floats(0, 1)), min_size=1, max_size=80)
)
def test_all_of_it_is_within_the_picture(rows: list[tuple[int, int, float]]) -> None:
    made = [
        version(number, texts, int(share * judged), judged)
        for number, (texts, judged, share) in enumerate(rows)
    ]
    curve = build_learning_curve(made, "v-0")
    assert curve is not None
    assert len(curve.ys) <= 7
    for point in curve.points:
        assert curve.left <= point.x <= curve.right
        assert 0 <= point.high <= point.y <= point.low <= HEIGHT


def test_a_small_matrix_is_shown_whole() -> None:
    found = build_confusion_matrix(Report(labels=("A", "B"), confusion=((3, 1), (0, 4))))
    assert found is not None
    assert not found.is_cut
    first, second = found.rows
    assert (first.number, first.label, first.total, first.others) == (1, "A", 4, 0)
    assert [cell.texts for cell in first.cells] == [3, 1]
    assert [cell.is_correct for cell in second.cells] == [False, True]
    assert second.cells[0].shade == 0
    assert second.cells[1].shade == SHADES - 1


def test_labels_with_the_most_errors_are_shown() -> None:
    size = 40
    matrix = [[10 if row == column else 0 for column in range(size)] for row in range(size)]
    for place in range(20, 20 + MAX_LABELS):
        matrix[place][place + 1] = 3
    found = build_confusion_matrix(
        Report(labels=tuple(f"label {n}" for n in range(size)), confusion=tuple(map(tuple, matrix)))
    )
    assert found is not None
    assert found.is_cut
    assert found.labels == size
    assert len(found.rows) == MAX_LABELS
    assert {row.label for row in found.rows} <= {f"label {n}" for n in range(20, 21 + MAX_LABELS)}
    assert all(sum(cell.texts for cell in row.cells) + row.others == row.total for row in found.rows)


def test_nothing_judged_or_a_matrix_of_another_shape_is_none() -> None:
    assert build_confusion_matrix(Report()) is None
    assert build_confusion_matrix(Report(labels=("A", "B"), confusion=((0, 0), (0, 0)))) is None
    assert build_confusion_matrix(Report(labels=("A", "B"), confusion=((1,),))) is None
