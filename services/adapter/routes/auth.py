"""Who may call: Basic credentials open everything, a secret path only what Label Studio calls, whose webhooks carry none.

`Gate` is ASGI middleware before all routes, so a route that is added later is closed by default. Below /<secret>/ pages
and /api ask for the password as elsewhere: Label Studio shows that URL to every user of a project.
"""

from __future__ import annotations

import base64
import binascii
import secrets
import time
from dataclasses import dataclass
from typing import Any, Final

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from services.adapter import metrics
from services.adapter.routes.bodies import json_response
from services.adapter.routes.notices import Refusals
from services.core.settings import AuthSettings

log = structlog.get_logger()
OPEN: Final = frozenset({"/health", "/livez", "/readyz"})
MACHINE: Final = frozenset({"/health", "/setup", "/predict", "/webhook", "/versions"})
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="Fitloop", charset="UTF-8"'}
_REFUSED: Final = (
    "This Fitloop asks for a user name and a password: set them in Label Studio (Settings > Model), or put the secret "
    "path into the URL."
)


@dataclass(frozen=True, slots=True)
class Guard:
    """What is compared with; all comparisons take the same time for any input of the same length."""

    credentials: tuple[bytes, ...]
    """`user:password` in the encodings that clients use; with neither these nor a secret, everybody may call."""
    secret: str
    base: str = ""
    """Path below which an ingress passes requests on, as /fitloop; without a slash at its end."""

    @classmethod
    def of(cls, settings: AuthSettings) -> Guard:
        """Basic auth is asked for once a password is set."""
        password = settings.password.get_secret_value()
        pair = f"{settings.username}:{password}"
        return cls(
            _encodings(pair) if password else (), settings.secret_path, settings.path_prefix.rstrip("/")
        )

    def place(self, path: str) -> tuple[str, str]:
        """Where the path stands, `base` or "" (pods call without it), and the rest that begins with a slash."""
        if self.base and (path == self.base or path.startswith(f"{self.base}/")):
            return self.base, path.removeprefix(self.base) or "/"
        return "", path

    def admits(self, authorization: bytes) -> bool:
        """Whether the Authorization header (b"" for none) holds the credentials."""
        if not self.credentials:
            return not self.secret
        scheme, _, encoded = authorization.partition(b" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            given = b""
        matches = [secrets.compare_digest(given, expected) for expected in self.credentials]
        return scheme.lower() == b"basic" and any(matches)

    def prefix(self, path: str) -> str:
        """`/<secret>` where the path begins with it, else ""."""
        first = path.lstrip("/").partition("/")[0] if path.startswith("/") else ""
        is_secret = secrets.compare_digest(first.encode("utf-8", "replace"), self.secret.encode())
        return f"/{self.secret}" if self.secret and is_secret else ""


class Gate:
    """Lets requests through, or answers 401."""

    def __init__(self, app: ASGIApp, guard: Guard, refusals: Refusals | None = None) -> None:
        self._app = app
        self._guard = guard
        self._refusals = refusals or Refusals()
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on; below the secret path with that prefix as the request's root."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        base, path = self._guard.place(scope["path"])
        prefix = self._guard.prefix(path)
        if prefix and (path.removeprefix(prefix) in MACHINE or self._guard.admits(_authorization(scope))):
            await self._app(_below(scope, base + prefix), receive, send)
        elif path in OPEN or self._guard.admits(_authorization(scope)):
            await self._app(_below(scope, base) if base else scope, receive, send)
        else:
            self._count(path)
            await json_response({"detail": _REFUSED, "status": 401}, 401, _CHALLENGE)(scope, receive, send)

    def _count(self, path: str) -> None:
        is_event = path == "/webhook"
        if is_event:
            self._refusals.count(time.time())
        metrics.refused("webhook" if is_event else "other")
        if is_event and not self._warned:
            self._warned = True
            log.warning(
                "an event of Label Studio was refused: its webhooks carry no password unless the URL does; set "
                "FITLOOP_SECRET_PATH and connect to the URL with it"
            )


def _below(scope: Scope, prefix: str) -> dict[str, Any]:
    path = scope["path"] if scope["path"] != prefix else f"{prefix}/"
    return {**scope, "path": path, "root_path": scope.get("root_path", "") + prefix}


def _authorization(scope: Scope) -> bytes:
    return next((bytes(value) for name, value in scope["headers"] if name == b"authorization"), b"")


def _encodings(pair: str) -> tuple[bytes, ...]:
    """As UTF-8, which browsers and curl send, and as latin-1, which Label Studio's `requests` sends where it can."""
    try:
        return pair.encode(), pair.encode("latin-1")
    except UnicodeEncodeError:
        return (pair.encode(),)
