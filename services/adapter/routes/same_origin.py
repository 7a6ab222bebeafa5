"""Host names that are answered where nobody has to log in: any web page can make a name of its own point to 127.0.0.1.

That is DNS rebinding: the browser takes the page and what answers at its name for one origin. The name stays the page's.
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
    "This Fitloop has no password, and so answers only to names that it knows: call it localhost or 127.0.0.1, add the name "
    "to FITLOOP_ALLOWED_HOSTS, or set BASIC_AUTH_USER and BASIC_AUTH_PASS."
)


def allowed_hosts(auth: AuthSettings) -> frozenset[str] | None:
    """The names that are answered, lower case and without a port; None where any is."""
    is_open_to_all = auth.anonymous and not auth.allowed_hosts
    if auth.has_credentials or is_open_to_all:
        return None
    return _LOOPBACK | {normalize_host(host) for host in auth.allowed_hosts}


def is_known(scope: Scope, hosts: frozenset[str]) -> bool:
    """Whether the request has one Host header, and that names a host that is known."""
    named = [bytes(value) for name, value in scope["headers"] if name == b"host"]
    return len(named) == 1 and normalize_host(named[0].decode("latin-1")) in hosts


def normalize_host(host: str) -> str:
    """Lower case, without a port, brackets and the dot of an absolute name; "" for what is no host."""
    host = host.strip().lower()
    if host.startswith("["):
        name, closed, port = host[1:].partition("]")
        return name if closed and _is_port(port) else ""
    if host.count(":") > 1:  # an IPv6 address as people write it in a setting
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
    """True or False as the browser says; None where it says nothing, as programs do."""
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
    """Without the port that needs no naming, which browsers leave out and some proxies write."""
    return host.strip().lower().removesuffix({"http": ":80", "https": ":443"}.get(scheme, ""))


class SameOriginMiddleware:
    """Middleware: what changes anything is refused where a page of another site asks for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 403."""
        changes = scope["type"] == "http" and scope["method"] not in _SAFE_METHODS
        if changes and is_same_origin(Headers(scope=scope)) is False:
            log.info("a request was refused", reason="it came from a page of another site")
            await json_response({"detail": _CROSS_SITE, "status": 403}, 403)(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class FormTokens:
    """Tokens of forms. All replicas have the same key, which comes from the password, slowly."""

    def __init__(self, auth: AuthSettings) -> None:
        """Without a password there are none."""
        password = auth.password.get_secret_value()
        salt = f"fitloop form {auth.username}".encode()
        self._key = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 100_000) if password else b""

    def __bool__(self) -> bool:
        """Whether forms may be sent at all."""
        return bool(self._key)

    def issue(self, purpose: str, now: float) -> str:
        """For a form that asks for `purpose`, an hour long."""
        until = f"{int(now) + _TOKEN_SECONDS}"
        return f"{until}.{self._sign(until, purpose)}"

    def is_valid(self, token: str, purpose: str, now: float) -> bool:
        """Whether it was made for this purpose, and lately."""
        until, _, mark = token.partition(".")
        is_true = hmac.compare_digest(mark.encode(), self._sign(until, purpose).encode())
        return bool(self) and is_true and until.isascii() and until.isdigit() and now < int(until)

    def _sign(self, until: str, purpose: str) -> str:
        return hmac.new(self._key, f"{until} {purpose}".encode(), hashlib.sha256).hexdigest()
