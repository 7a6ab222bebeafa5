"""The confusion matrix as people see it."""

from __future__ import annotations

from services.adapter.pages.mixups import MOST, SHADES, arrange
from services.core.domain import Report


def test_a_small_matrix_is_shown_whole() -> None:
    found = arrange(Report(labels=("A", "B"), confusion=((3, 1), (0, 4))))
    assert found is not None
    assert not found.is_cut
    first, second = found.rows
    assert (first.number, first.label, first.total, first.others) == (1, "A", 4, 0)
    assert [cell.texts for cell in first.cells] == [3, 1]
    assert [cell.is_right for cell in second.cells] == [False, True]
    assert second.cells[0].shade == 0
    assert second.cells[1].shade == SHADES - 1


def test_of_many_labels_those_with_the_most_mistakes_are_shown_and_the_rest_is_counted() -> None:
    size = 40
    matrix = [[10 if row == column else 0 for column in range(size)] for row in range(size)]
    for place in range(20, 20 + MOST):
        matrix[place][place + 1] = 3
    found = arrange(
        Report(labels=tuple(f"label {n}" for n in range(size)), confusion=tuple(map(tuple, matrix)))
    )
    assert found is not None
    assert found.is_cut
    assert found.labels == size
    assert len(found.rows) == MOST
    assert {row.label for row in found.rows} <= {f"label {n}" for n in range(20, 21 + MOST)}
    assert all(sum(cell.texts for cell in row.cells) + row.others == row.total for row in found.rows)


def test_nothing_judged_or_a_matrix_of_another_shape_is_none() -> None:
    assert arrange(Report()) is None
    assert arrange(Report(labels=("A", "B"), confusion=((0, 0), (0, 0)))) is None
    assert arrange(Report(labels=("A", "B"), confusion=((1,),))) is None
