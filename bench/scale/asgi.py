"""What the simulated servers share: bodies, answers, requests that are never answered, and a server in a process of its own."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import uvicorn

Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def serve(app: App) -> None:
    """Serve at the port in argv until the process is killed."""
    uvicorn.run(
        app,
        port=int(sys.argv[1]),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=600,
        lifespan="off",
        backlog=2048,
    )


async def read_body(receive: Receive) -> bytes:
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(parts)


async def answer(
    send: Send, status: int, body: bytes, kind: str = "application/json", **headers: str
) -> None:
    named = {"content-type": kind, "content-length": str(len(body)), **headers}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


async def answer_json(send: Send, found: object, status: int = 200) -> None:
    await answer(send, status, json.dumps(found).encode())


async def hang(receive: Receive) -> None:
    """Return when the client has given up."""
    while (await receive())["type"] != "http.disconnect":
        pass
