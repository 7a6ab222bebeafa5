"""Waiting on an event loop for what a thread does."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from typing import Any

import pytest

from services.engine.futures import result_of, result_of_second


async def test_a_result_that_is_known_needs_no_turn() -> None:
    future: Future[int] = Future()
    future.set_result(1)
    assert await result_of(future) == 1


async def test_a_thread_wakes_all_who_wait() -> None:
    future: Future[int] = Future()
    waiting = [asyncio.create_task(result_of(future)) for _ in range(3)]
    await asyncio.sleep(0)
    threading.Thread(target=future.set_result, args=(7,)).start()
    assert await asyncio.gather(*waiting) == [7, 7, 7]


async def test_errors_are_raised() -> None:
    future: Future[int] = Future()
    waiting = asyncio.create_task(result_of(future))
    await asyncio.sleep(0)
    future.set_exception(ZeroDivisionError("made to fail"))
    with pytest.raises(ZeroDivisionError):
        await waiting


async def test_who_gives_up_cancels_nothing() -> None:
    future: Future[int] = Future()
    given_up, waiting = asyncio.create_task(result_of(future)), asyncio.create_task(result_of(future))
    await asyncio.sleep(0)
    given_up.cancel()
    await asyncio.sleep(0)
    assert future.set_running_or_notify_cancel()
    future.set_result(3)
    assert await waiting == 3
    assert given_up.cancelled()


async def test_a_future_that_another_returns_is_waited_for() -> None:
    first: Future[Future[int]] = Future()
    second: Future[int] = Future()
    waiting = asyncio.create_task(result_of_second(first))
    await asyncio.sleep(0)
    first.set_result(second)
    threading.Thread(target=second.set_result, args=(7,)).start()
    assert await waiting == 7


@pytest.mark.parametrize("is_second", [False, True])
async def test_errors_of_either_future_are_raised(is_second: bool) -> None:
    first: Future[Future[int]] = Future()
    second: Future[int] = Future()
    failed: Future[Any] = second if is_second else first
    failed.set_exception(ZeroDivisionError("made to fail"))
    if is_second:
        first.set_result(second)
    with pytest.raises(ZeroDivisionError):
        await result_of_second(first)
