"""The confusion matrix: which labels are shown, and how."""

from __future__ import annotations

from services.adapter.pages.confusion_matrix import MAX_LABELS, SHADES, build_confusion_matrix
from services.core.confusions import largest_confusions
from services.core.domain import Report


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


def test_labels_of_the_largest_confusions_are_shown() -> None:
    size = 40
    matrix = [[10 if row == column else 0 for column in range(size)] for row in range(size)]
    for place in range(20, 20 + MAX_LABELS):
        matrix[place][place + 1] = 3
    matrix[30][5] = 7
    report = Report(labels=tuple(f"label {n}" for n in range(size)), confusion=tuple(map(tuple, matrix)))
    found = build_confusion_matrix(report, largest_confusions(report))
    assert found is not None
    assert found.is_cut
    assert found.labels == size
    assert [row.label for row in found.rows][:4] == ["label 30", "label 5", "label 20", "label 21"]
    assert len(found.rows) == MAX_LABELS
    assert all(sum(cell.texts for cell in row.cells) + row.others == row.total for row in found.rows)


def test_nothing_judged_or_a_matrix_of_another_shape_is_none() -> None:
    assert build_confusion_matrix(Report()) is None
    assert build_confusion_matrix(Report(labels=("A", "B"), confusion=((0, 0), (0, 0)))) is None
    assert build_confusion_matrix(Report(labels=("A", "B"), confusion=((1,),))) is None
