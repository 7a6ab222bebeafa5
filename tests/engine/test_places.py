"""How many texts of a project may be queued."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.errors import Overloaded
from services.engine.places import Places

LIMIT = 800


def fill(places: Places, project: str, step: int = 1) -> int:
    """Queue texts of a project until no more are accepted; return how many were."""
    taken = 0
    with contextlib.suppress(Overloaded):
        while True:
            places.take(project, step)
            taken += step
    return taken


def test_one_project_leaves_an_eighth_for_others() -> None:
    places = Places(LIMIT)
    assert fill(places, "1-1") == 700
    with pytest.raises(Overloaded, match="700 texts are queued, 700 of them of this project, of at most 800"):
        places.take("1-1", 1)
    assert fill(places, "2-1") == 87
    assert fill(places, "3-1") > 0


def test_empty_queue_accepts_a_larger_request() -> None:
    places = Places(LIMIT)
    places.take("1-1", 5_000)
    with pytest.raises(Overloaded, match=r"5000 texts are queued, of at most 800"):
        places.take("2-1", 1)
    places.free("1-1", 5_000)
    places.take("2-1", 1)


def test_request_without_texts_needs_no_place() -> None:
    places = Places(1)
    places.take("1-1", 9)
    places.take("1-1", 0)
    assert places.taken == 9


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(1, 300)), max_size=80))
def test_who_has_no_text_queued_may_queue_one(steps: list[tuple[str, int]]) -> None:
    places = Places(LIMIT)
    taken = dict.fromkeys("abcdef", 0)
    for project, texts in steps:
        try:
            places.take(project, min(texts, LIMIT * 7 // 8))
        except Overloaded:
            places.free(project, taken[project])
            taken[project] = 0
        else:
            taken[project] += min(texts, LIMIT * 7 // 8)
        assert places.taken == sum(taken.values()) <= LIMIT
    places.take("newcomer", 1)
