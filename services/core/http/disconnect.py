"""Stop working for a client that has gone: servers run a request's handler to its end otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

from starlette.requests import Request

from services.core.errors import Overloaded

_Answer = TypeVar("_Answer")


async def while_connected(request: Request, work: Coroutine[None, None, _Answer]) -> _Answer:
    """Return what `work` returns; cancel it, and raise Overloaded, if the client disconnects. The body must have been read."""
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnection(request))
    try:
        await asyncio.wait({task, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Overloaded("The client gave up before the answer.")
        return await task
    finally:
        task.cancel()
        gone.cancel()


async def _disconnection(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
