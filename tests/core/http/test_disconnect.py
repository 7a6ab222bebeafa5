"""Work is cancelled once nobody waits for its answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request

from services.core.errors import Overloaded
from services.core.http.disconnect import while_connected


def build_request(*, gone: asyncio.Event) -> Request:
    async def receive() -> dict[str, Any]:
        await gone.wait()
        return {"type": "http.disconnect"}

    return Request({"type": "http", "method": "POST", "headers": []}, receive)


async def test_answer_is_returned() -> None:
    async def work() -> int:
        return 7

    assert await while_connected(build_request(gone=asyncio.Event()), work()) == 7


async def test_error_is_raised() -> None:
    async def work() -> int:
        raise Overloaded("the queue is full")

    with pytest.raises(Overloaded, match="the queue is full"):
        await while_connected(build_request(gone=asyncio.Event()), work())


async def test_work_for_nobody_is_cancelled() -> None:
    gone, cancelled = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    waiting = asyncio.ensure_future(while_connected(build_request(gone=gone), work()))
    await asyncio.sleep(0)
    gone.set()
    with pytest.raises(Overloaded, match="client gave up"):
        await waiting
    await asyncio.wait_for(cancelled.wait(), 5)
