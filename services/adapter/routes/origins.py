"""Whether a request was made by a page of ours: another site's page must not train or promote with a browser's password.

Browsers say where a request comes from, in headers that no page can change; programs say nothing, and are let through by
`refuses`. A form must be surely ours, and bring the token that stood in it.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from services.adapter.routes.bodies import json_response
from services.core.settings import AuthSettings

log = structlog.get_logger()
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_SECONDS: Final = 3600
_REFUSED: Final = (
    "This request came from a page of another site, so nothing was done: use Fitloop's own page."
)


def is_ours(headers: Mapping[str, str]) -> bool | None:
    """True or False as the browser says; None where it says nothing, as programs do."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"
    if origin is None:
        return None
    scheme, host = urlsplit(origin)[:2]
    named = f"{headers.get('host', '')},{headers.get('x-forwarded-host', '')}"  # each proxy may add one
    return _bare(scheme, host) in {_bare(scheme, one) for one in named.split(",") if one.strip()}


def _bare(scheme: str, host: str) -> str:
    """Without the port that needs no naming, which browsers leave out and some proxies write."""
    return host.strip().lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


class SameSite:
    """Middleware: what changes anything is refused where a page of another site asks for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 403."""
        changes = scope["type"] == "http" and scope["method"] not in _READS
        if changes and is_ours(Headers(scope=scope)) is False:
            log.info("a request was refused", reason="it came from a page of another site")
            await json_response({"detail": _REFUSED, "status": 403}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Tokens:
    """Tokens of forms. All replicas have the same key, which comes from the password, slowly."""

    def __init__(self, auth: AuthSettings) -> None:
        """Without a password there are none."""
        password = auth.password.get_secret_value()
        salt = f"fitloop form {auth.username}".encode()
        self._key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 100_000) if password else b""

    def __bool__(self) -> bool:
        """Whether forms may be sent at all."""
        return bool(self._key)

    def make(self, wish: str, now: float) -> str:
        """For a form that asks for `wish`, an hour long."""
        until = f"{int(now) + _SECONDS}"
        return f"{until}.{self._mark(until, wish)}"

    def holds(self, token: str, wish: str, now: float) -> bool:
        """Whether it was made for this wish, and lately."""
        until, _, mark = token.partition(".")
        is_true = hmac.compare_digest(mark.encode(), self._mark(until, wish).encode())
        return bool(self) and is_true and until.isascii() and until.isdigit() and now < int(until)

    def _mark(self, until: str, wish: str) -> str:
        return hmac.new(self._key, f"{until} {wish}".encode(), hashlib.sha256).hexdigest()
