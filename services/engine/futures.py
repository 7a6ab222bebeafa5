"""Wait on an event loop for what a thread does."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from typing import TypeVar

_T = TypeVar("_T")


async def result_of(future: Future[_T]) -> _T:
    """Return the result of a load, which other requests may share, or of a batch. Cancelling a request cancels neither.

    By one callback: `wrap_future` and `shield` together pass through the event loop three times.
    """
    if not future.done():
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(_wake, waiter))
        await waiter
    return future.result()


async def result_of_second(first: Future[Future[_T]]) -> _T:
    """Return the result of the future that another one returns, by one callback as well."""
    both: Future[_T] = Future()

    def follow(done: Future[Future[_T]]) -> None:
        if error := done.exception():
            both.set_exception(error)
        else:
            done.result().add_done_callback(pass_on)

    def pass_on(done: Future[_T]) -> None:
        if error := done.exception():
            both.set_exception(error)
        else:
            both.set_result(done.result())

    first.add_done_callback(follow)
    return await result_of(both)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
