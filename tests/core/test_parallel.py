"""in_parallel: results in order, several calls at a time, the first error."""

from __future__ import annotations

import threading

import pytest

from services.core.parallel import in_parallel


@pytest.mark.parametrize("count", [0, 1, 3, 4, 50])
def test_results_are_in_order(count: int) -> None:
    assert in_parallel(lambda number: 2 * number, range(count)) == [2 * number for number in range(count)]


def test_several_calls_are_made_at_a_time() -> None:
    together = threading.Barrier(8, timeout=20)
    assert len(in_parallel(lambda _: together.wait(), range(8))) == 8


@pytest.mark.parametrize("count", [2, 30])
def test_first_error_is_raised(count: int) -> None:
    def work(number: int) -> int:
        if number:
            raise ValueError(number)
        return number

    with pytest.raises(ValueError, match="^1$"):
        in_parallel(work, range(count))
