"""Request ids on every log line of a request, in every process that handles it.

`RequestIds` is ASGI middleware of both servers: it accepts X-Request-ID if that looks like an id, else makes one, binds it
and returns it with the answer. `outgoing_headers` passes the id and the trace on to the next process.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog

from services.core.http import App, Message, Receive, Scope, Send
from services.core.telemetry import tracing

REQUEST_ID_HEADER: Final = "X-Request-ID"
TRACEPARENT_HEADER: Final = "traceparent"
SAFE_ERROR_HEADER: Final = "X-Fitloop"
"""Marks an error of our own predictor, whose message is safe to pass on; another server's may repeat the texts."""
_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_CHANCE: Final = random.Random()  # noqa: S311  # ids must be unique, not secret
"""Seeded by the system once. Asking it for each id would release the interpreter lock, and under load wait for it."""


class RequestIds:
    """Bind `request_id` while `app` answers."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        name = valid_request_id(header(scope, REQUEST_ID_HEADER)) or new_request_id()

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [
                    *message.get("headers", ()),
                    (REQUEST_ID_HEADER.lower().encode(), name.encode()),
                ]
            await send(message)

        with bind_ids(request_id=name):
            await self._app(scope, receive, answer)


@contextmanager
def bind_ids(**ids: object) -> Iterator[None]:
    """Add these ids to every log line of the block; whatever the block binds is unbound with them."""
    before = structlog.contextvars.get_contextvars()
    structlog.contextvars.bind_contextvars(**ids)
    try:
        yield
    finally:
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(**before)


def log_ids(project_key: str, version: str) -> dict[str, int | str]:
    """Return `project` (its id; predictors know it by key) and `version` for log lines."""
    number = project_key.partition("-")[0]
    return {"project": int(number) if number.isdecimal() else project_key, "version": version}


def valid_request_id(given: str) -> str:
    """Return the id that a caller gave if it looks like one, else ""."""
    return given if _ID.fullmatch(given) else ""


def new_request_id() -> str:
    return f"{_CHANCE.getrandbits(128):032x}"


def header(scope: Scope, name: str) -> str:
    """Return a request's header; "" if it is absent."""
    wanted = name.lower().encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")


def current_request_id() -> str:
    """Return the bound id; "" if there is none."""
    return str(structlog.contextvars.get_contextvars().get("request_id") or "")


def outgoing_headers() -> dict[str, str]:
    """Return the headers of a request to another process of ours."""
    found = {REQUEST_ID_HEADER: current_request_id(), TRACEPARENT_HEADER: tracing.traceparent()}
    return {name: value for name, value in found.items() if value}
