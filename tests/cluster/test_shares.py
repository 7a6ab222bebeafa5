"""No project takes the places of another one; waiting is bounded in time and in number."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cluster.shares import RequestShares, may_begin, next_project
from services.core.errors import Overloaded


class Holder:
    """Requests of a project that hold their places until they are told to end."""

    def __init__(self, shares: RequestShares, project: str) -> None:
        self.shares, self.project = shares, project
        self.tasks: list[asyncio.Task[None]] = []
        self.begun = 0
        self._end = asyncio.Event()

    async def send(self, count: int) -> None:
        self.tasks += [asyncio.create_task(self._hold()) for _ in range(count)]
        for _ in range(3):
            await asyncio.sleep(0)

    async def end(self) -> None:
        self._end.set()
        await asyncio.gather(*self.tasks, return_exceptions=True)

    async def _hold(self) -> None:
        async with self.shares.place(self.project):
            self.begun += 1
            await self._end.wait()


@asynccontextmanager
async def holders(shares: RequestShares, *projects: str) -> AsyncIterator[list[Holder]]:
    async with AsyncExitStack() as stack:
        found = [Holder(shares, project) for project in projects]
        for one in found:
            stack.push_async_callback(one.end)
        yield found


async def test_one_project_leaves_places_for_another() -> None:
    async with holders(RequestShares(places=16), "slow", "other", "third") as (slow, other, third):
        await slow.send(40)
        assert slow.begun == 8
        await other.send(40)
        assert other.begun == 4
        await third.send(1)
        assert third.begun == 1


async def test_place_that_becomes_free_goes_to_the_project_with_the_fewest() -> None:
    async with holders(RequestShares(places=4), "a", "b", "c") as (a, b, c):
        await a.send(5)
        await b.send(5)
        await c.send(5)
        assert (a.begun, b.begun, c.begun) == (2, 1, 1)
        await a.end()
        assert (b.begun, c.begun) == (2, 1)
        await b.end()
        assert (a.begun, b.begun, c.begun) == (5, 5, 2)


async def test_requests_of_a_project_begin_in_order() -> None:
    shares, order = RequestShares(places=2), list[int]()

    async def run(number: int) -> None:
        async with shares.place("a"):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(run(number) for number in range(20)))
    assert order == list(range(20))
    assert not shares._in_flight
    assert not shares._waiting


async def test_waiting_ends_after_its_time() -> None:
    shares = RequestShares(places=2, wait_seconds=0.01)
    async with holders(shares, "a") as (a,):
        await a.send(1)
        with pytest.raises(Overloaded, match="answer too slowly"):
            async with shares.place("a"):
                pytest.fail("there was no place")
        assert not shares._waiting
    assert not shares._in_flight


async def test_queue_of_a_project_is_bounded() -> None:
    shares = RequestShares(places=2, max_waiting=3)
    async with holders(shares, "a", "b") as (a, b):
        await a.send(4)
        with pytest.raises(Overloaded, match="3 requests of this project wait"):
            async with shares.place("a"):
                pytest.fail("there was no place")
        await b.send(1)
        assert b.begun == 1


async def test_cancelled_requests_take_no_place() -> None:
    shares = RequestShares(places=2)
    async with holders(shares, "a") as (a,):
        await a.send(3)
        a.tasks[1].cancel()
        await a.send(0)
        await a.end()
    assert not shares._in_flight
    assert not shares._waiting


async def test_place_given_to_a_request_that_is_cancelled_at_once_is_free_again() -> None:
    shares = RequestShares(places=2)
    async with holders(shares, "a", "b") as (a, b):
        await a.send(1)
        await b.send(0)
        async with AsyncExitStack() as stack:
            waiting = asyncio.create_task(stack.enter_async_context(shares.place("a")))
            await asyncio.sleep(0)
            a._end.set()
            a.tasks[0].cancel()
            await asyncio.gather(a.tasks[0], return_exceptions=True)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
    assert not shares._in_flight
    assert not shares._waiting


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 40), max_size=6),
    st.lists(st.sampled_from("abcdef"), unique=True),
    st.integers(1, 64),
)
def test_waiting_project_with_the_fewest_begins_if_any_may(
    in_flight: dict[str, int], waiting: list[str], places: int
) -> None:
    total = sum(in_flight.values())
    may = [project for project in waiting if may_begin(in_flight.get(project, 0), total, places)]
    found = next_project(in_flight, waiting, places)
    assert (found is None) == (not may)
    if found is not None:
        assert in_flight.get(found, 0) == min(in_flight.get(project, 0) for project in waiting)


@given(st.lists(st.sampled_from("abcdefgh"), max_size=400), st.integers(2, 64))
def test_each_project_leaves_half_of_the_free_places(requests: list[str], places: int) -> None:
    in_flight: Counter[str] = Counter()
    for project in requests:
        if may_begin(in_flight[project], in_flight.total(), places):
            in_flight[project] += 1
    projects = sum(count > 0 for count in in_flight.values())
    assert places - in_flight.total() >= places >> projects
