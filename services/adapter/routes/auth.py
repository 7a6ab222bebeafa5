"""Authentication: Basic credentials open every route, a secret path only those that Label Studio calls.

The secret path exists because webhooks carry no credentials. Label Studio shows it to all of its users, so pages and the
API require the password below it as well, and are closed if no password is set.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
import time
from dataclasses import dataclass
from typing import Final

import structlog
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from services.adapter import metrics
from services.adapter.routes import same_origin
from services.adapter.routes.bodies import json_response
from services.adapter.routes.logins import LOGGED_IN, MAX_DELAY_SECONDS, LoginAttempts
from services.core.settings import AuthSettings

log = structlog.get_logger()
OPEN_PATHS: Final = frozenset({"/health", "/livez", "/readyz"})
"""Probes, which reveal nothing."""
LABEL_STUDIO_PATHS: Final = frozenset({"/health", "/setup", "/predict", "/webhook", "/versions"})
"""What Label Studio calls: all that the secret path opens."""
BASE_PATH: Final = "fitloop.base"
"""In a request's scope: the base path of the ingress, without the secret path."""
_CHALLENGE: Final = {"WWW-Authenticate": 'Basic realm="Fitloop", charset="UTF-8"'}
_UNAUTHORIZED: Final = (
    "Fitloop requires a user name and a password: set them in Label Studio (Settings > Model), or add the secret "
    "path to the URL that Label Studio calls; pages and the API always require the password."
)
_CLOSED: Final = (
    "This route is closed because no password is set and the secret path only opens what Label Studio calls: set "
    "BASIC_AUTH_USER and BASIC_AUTH_PASS."
)
_TOO_MANY_LOGINS: Final = "Too many failed logins from this address: wait a few seconds, then try again."


@dataclass(slots=True)
class RefusedEvents:
    """Webhooks refused for lack of credentials."""

    last_at: float = 0.0


@dataclass(frozen=True, slots=True)
class AccessPolicy:
    """Credentials, secret path, base path and host names; comparisons take constant time."""

    credentials: tuple[bytes, ...]
    """`user:password` in the encodings that clients use; empty without a password."""
    secret: str
    base: str = ""
    """Path prefix of the ingress, e.g. /fitloop, without a trailing slash."""
    allowed_hosts: frozenset[str] | None = None
    """Host names served without a login; None for any."""

    @classmethod
    def from_settings(cls, settings: AuthSettings) -> AccessPolicy:
        """Require Basic authentication if a password is set."""
        password = settings.password.get_secret_value()
        pair = f"{settings.username}:{password}"
        return cls(
            _encodings(pair) if password else (),
            settings.secret_path,
            settings.path_prefix.rstrip("/"),
            same_origin.allowed_hosts(settings),
        )

    def split_base(self, path: str) -> tuple[str, str]:
        """Split a path into the base path, or "" (pods call without it), and the rest with a leading slash."""
        if self.base and (path == self.base or path.startswith(f"{self.base}/")):
            return self.base, path.removeprefix(self.base) or "/"
        return "", path

    def accepts(self, authorization: bytes) -> bool:
        """Whether an Authorization header (b"" for none) opens every route; any does if nothing is set."""
        if not self.credentials:
            return not self.secret
        scheme, _, encoded = authorization.partition(b" ")
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            given = b""
        matches = [secrets.compare_digest(given, expected) for expected in self.credentials]
        return scheme.lower() == b"basic" and any(matches)

    def secret_prefix(self, path: str) -> str:
        """Return `/<secret>` if the path begins with it, else ""."""
        first = path.lstrip("/").partition("/")[0] if path.startswith("/") else ""
        is_secret = secrets.compare_digest(first.encode("utf-8", "replace"), self.secret.encode())
        return f"/{self.secret}" if self.secret and is_secret else ""


class AuthMiddleware:
    """ASGI middleware before all routes: pass requests on, or answer 401, 421 or 429."""

    def __init__(self, app: ASGIApp, policy: AccessPolicy, refusals: RefusedEvents | None = None) -> None:
        self._app = app
        self._policy = policy
        self._refusals = refusals or RefusedEvents()
        self._attempts = LoginAttempts()
        self._warned = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on; below the secret path, with that prefix as the request's root path."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        base, path = self._policy.split_base(scope["path"])
        prefix = self._policy.secret_prefix(path)
        asked = path.removeprefix(prefix) or "/"
        passed = _scope_below(scope, base, prefix)
        if (
            asked not in OPEN_PATHS
            and self._policy.allowed_hosts is not None
            and not same_origin.is_known(scope, self._policy.allowed_hosts)
        ):
            answer: ASGIApp = json_response({"detail": same_origin.UNKNOWN_HOST, "status": 421}, 421)
        elif asked in OPEN_PATHS or (prefix and asked in LABEL_STUDIO_PATHS):
            answer = self._app
        else:
            passed[LOGGED_IN] = bool(self._policy.credentials)
            answer = await self._authenticate(scope, asked) or self._app
        await answer(passed, receive, send)

    async def _authenticate(self, scope: Scope, path: str) -> Response | None:
        """Return None for valid credentials, else the response, delayed after earlier failures."""
        authorization, peer, now = _authorization(scope), _peer(scope), time.monotonic()
        is_attempt = bool(
            authorization or path.count("/") > 1
        )  # otherwise a browser's first request, or a webhook
        if is_attempt and self._attempts.is_blocked(peer, now):
            metrics.count_refused("other")
            return _too_many()
        if self._policy.accepts(authorization):
            if self._policy.credentials:
                self._attempts.record_success(peer, now)
            return None
        self._count_refused(path)
        delay = self._attempts.record_failure(peer, now) if is_attempt else 0.0
        if delay < 0:
            return _too_many()
        if delay:
            await self._delay(peer, delay)
        message = _UNAUTHORIZED if self._policy.credentials else _CLOSED
        return json_response({"detail": message, "status": 401}, 401, _CHALLENGE)

    async def _delay(self, peer: str, seconds: float) -> None:
        self._attempts.count_delayed(peer, 1)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._attempts.count_delayed(peer, -1)

    def _count_refused(self, path: str) -> None:
        is_event = path == "/webhook"
        if is_event:
            self._refusals.last_at = time.time()
        metrics.count_refused("webhook" if is_event else "other")
        if is_event and not self._warned:
            self._warned = True
            log.warning(
                "webhook_refused",
                advice="webhooks carry no password unless the URL does: set FITLOOP_SECRET_PATH and connect to the URL with it",
            )


def _too_many() -> Response:
    headers = {"Retry-After": str(int(MAX_DELAY_SECONDS))}
    return json_response({"detail": _TOO_MANY_LOGINS, "status": 429}, 429, headers)


def _scope_below(scope: Scope, base: str, secret: str) -> Scope:
    """Return the scope for the routes, with everything before them as root path."""
    prefix = base + secret
    path = scope["path"] if scope["path"] != prefix else f"{prefix}/"
    return {**scope, "path": path, "root_path": scope.get("root_path", "") + prefix, BASE_PATH: base}


def _peer(scope: Scope) -> str:
    """Return the caller's address; behind a trusted proxy, uvicorn has set the one that it names."""
    return str((scope.get("client") or ("unknown",))[0])


def _authorization(scope: Scope) -> bytes:
    return next((bytes(value) for name, value in scope["headers"] if name == b"authorization"), b"")


def _encodings(pair: str) -> tuple[bytes, ...]:
    """Encode in UTF-8, as browsers and curl do, and in latin-1, as Label Studio's `requests` does if it can."""
    try:
        return pair.encode(), pair.encode("latin-1")
    except UnicodeEncodeError:
        return (pair.encode(),)
