from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.engine.compute import (
    GPU_BUDGET,
    MIN_BUDGET,
    STREAM_BUDGET,
    TOKEN_BUDGET,
    batch_budget,
    batch_window,
    padding_allowed,
    plan_batches,
    token_budget,
)

LENGTHS = st.lists(st.integers(1, 512), min_size=1, max_size=80)


def _is_within_bounds(lengths: list[int], budget: int) -> bool:
    padded = max(lengths) * len(lengths)
    return len(lengths) == 1 or (padded <= budget and padded - sum(lengths) <= padding_allowed(sum(lengths)))


@given(LENGTHS, st.integers(1, 2048))
def test_plan_covers_every_row_within_bounds(lengths: list[int], budget: int) -> None:
    batches = plan_batches(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    assert all(_is_within_bounds([lengths[row] for row in batch], budget) for batch in batches)


@given(LENGTHS)
def test_longest_rows_come_first(lengths: list[int]) -> None:
    longest = [max(lengths[row] for row in batch) for batch in plan_batches(lengths)]
    assert longest == sorted(longest, reverse=True)


@given(LENGTHS, st.data(), st.integers(1, 2048))
def test_window_contains_its_anchor_within_bounds(
    lengths: list[int], data: st.DataObject, budget: int
) -> None:
    ordered = sorted(lengths)
    anchor = data.draw(st.integers(0, len(ordered) - 1))
    start, stop = batch_window(ordered, anchor, int, budget)
    assert 0 <= start <= anchor < stop <= len(ordered)
    assert _is_within_bounds(ordered[start:stop], budget)


def test_window_grows_to_both_sides() -> None:
    assert batch_window([1, 90, 100, 110, 400], 2, int, budget=1000) == (1, 4)


def test_no_rows_no_batches() -> None:
    assert plan_batches([]) == []


def test_token_budget_divides_the_queue_among_streams() -> None:
    assert token_budget(200, 2) == 100
    assert token_budget(10, 2) == MIN_BUDGET
    assert token_budget(1_000_000, 2) == STREAM_BUDGET


@pytest.mark.parametrize("kind", ["torch-bf16", "torch-fp16"])
def test_batches_of_a_gpu_are_large(kind: str) -> None:
    assert token_budget(10, 2, kind) == batch_budget(kind) == GPU_BUDGET
    assert batch_budget("ct2-int8") == batch_budget("torch-fp32") == TOKEN_BUDGET < GPU_BUDGET
