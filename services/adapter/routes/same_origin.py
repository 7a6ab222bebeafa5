"""Protection against other web pages: CSRF (Origin checks and form tokens) and DNS rebinding (Host checks).

Browsers state a request's origin in headers that no page can change; programs send none, and are let through by the middleware.
A form must provably come from this site, and bring the token that was in it. Without a password, only known host names are
served: any page can make a name of its own point to 127.0.0.1, and the browser then treats both as one origin.
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

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})

UNKNOWN_HOST: Final = (
    "Without a password Fitloop only serves known host names: use localhost or 127.0.0.1, add the name to "
    "FITLOOP_ALLOWED_HOSTS, or set BASIC_AUTH_USER and BASIC_AUTH_PASS."
)


def allowed_hosts(auth: AuthSettings) -> frozenset[str] | None:
    """Return the host names to serve, normalized; None for any."""
    is_open_to_all = auth.anonymous and not auth.allowed_hosts
    if auth.has_credentials or is_open_to_all:
        return None
    return _LOOPBACK | {normalize_host(host) for host in auth.allowed_hosts}


def is_known(scope: Scope, hosts: frozenset[str]) -> bool:
    """Whether the request has exactly one Host header, with one of these hosts."""
    named = [bytes(value) for name, value in scope["headers"] if name == b"host"]
    return len(named) == 1 and normalize_host(named[0].decode("latin-1")) in hosts


def normalize_host(host: str) -> str:
    """Return a host in lower case, without port, brackets and trailing dot; "" if invalid."""
    host = host.strip().lower()
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        return name if closed and _is_port(port) else ""
    if host.count(":") > 1:  # an IPv6 address without brackets, as in settings
        return host
    name, colon, port = host.partition(":")
    return name.removesuffix(".") if _is_port(colon + port) else ""


def _is_port(text: str) -> bool:
    return not text or (text[0] == ":" and ((text[1:].isascii() and text[1:].isdigit()) or text == ":"))


_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_TOKEN_SECONDS: Final = 3600

_CROSS_SITE: Final = (
    "This request came from a page of another site, so nothing was done: use Fitloop's own page."
)


def is_same_origin(headers: Mapping[str, str]) -> bool | None:
    """Whether a browser says that a page of this site sent the request; None for programs, which say nothing."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None:
        return site == "same-origin"
    if origin is None:
        return None
    scheme, host = urlsplit(origin)[:2]
    named = f"{headers.get('host', '')},{headers.get('x-forwarded-host', '')}"  # each proxy may add one
    return _without_default_port(scheme, host) in {
        _without_default_port(scheme, one) for one in named.split(",") if one.strip()
    }


def _without_default_port(scheme: str, host: str) -> str:
    """Drop the default port, which browsers omit and some proxies add."""
    return host.strip().lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


class SameOriginMiddleware:
    """Middleware that refuses unsafe methods from pages of other sites."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 403."""
        changes = scope["type"] == "http" and scope["method"] not in _SAFE_METHODS
        if changes and is_same_origin(Headers(scope=scope)) is False:
            log.info("cross_site_request_refused")
            await json_response({"detail": _CROSS_SITE, "status": 403}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class FormTokens:
    """Signed form tokens. All replicas derive the same key from the password."""

    def __init__(self, auth: AuthSettings) -> None:
        """Derive the key, slowly; without a password there are no tokens."""
        password = auth.password.get_secret_value()
        salt = f"fitloop form {auth.username}".encode()
        self._key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 100_000) if password else b""

    def __bool__(self) -> bool:
        """Whether forms may be sent."""
        return bool(self._key)

    def issue(self, purpose: str, now: float) -> str:
        """Return a token for one purpose, valid for an hour."""
        until = f"{int(now) + _TOKEN_SECONDS}"
        return f"{until}.{self._sign(until, purpose)}"

    def is_valid(self, token: str, purpose: str, now: float) -> bool:
        """Whether the token was issued for this purpose and has not expired."""
        until, _, mark = token.partition(".")
        is_true = hmac.compare_digest(mark.encode(), self._sign(until, purpose).encode())
        return bool(self) and is_true and until.isascii() and until.isdigit() and now < int(until)

    def _sign(self, until: str, purpose: str) -> str:
        return hmac.new(self._key, f"{until} {purpose}".encode(), hashlib.sha256).hexdigest()
