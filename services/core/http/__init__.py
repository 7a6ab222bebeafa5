"""Shared by HTTP servers and clients: ASGI's types, size limits, time limits, tokens, and messages for failures."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

# As in `starlette.types`, which processes without a server do not install.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
