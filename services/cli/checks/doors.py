"""Whoever has no credentials is kept out: asked at the URL's origin without path and login, with a wrong one, and below the URL."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from services.cli.checks.calls import json_object, probe_url, send, without_credentials
from services.cli.checks.context import Context, Location
from services.cli.checks.finding import Check, Finding, fail, ok, warn
from services.core.advice import is_address

_SET: Final = (
    "Set BASIC_AUTH_USER, BASIC_AUTH_PASS and FITLOOP_SECRET_PATH (the chart's auth.*), and see that no proxy adds a login to "
    "requests that have none."
)


@dataclass(frozen=True, slots=True)
class _Door:
    """A request that must be refused, and whether an answer shows that Fitloop let it in: other servers may share the origin."""

    method: str
    path: str
    opened: Callable[[httpx.Response], bool]
    login: tuple[str, str] | None = None
    below: bool = False
    """Below the URL's own path, which may be secret."""

    @property
    def shown(self) -> str:
        """The route, and how it was asked for; never the secret path."""
        how = "with a wrong password" if self.login else "without a login"
        where = "<the URL's path>" if self.below else ""
        return f"{self.method} {where}{self.path} {how}"


def anonymous_access(context: Context) -> Finding:
    """What Fitloop answers to a stranger. The requests change nothing: this /setup names no project."""

    def look() -> Finding:
        found = [door.shown for door in _doors(context) if _is_open(context, door)]
        if not found:
            return ok("Pages, the API and /setup are closed to whoever has no credentials.")
        return _judged(context, f"{'; '.join(found)}: answered.")

    return probe_url(context, look)


CHECKS: Final = (Check("open doors", anonymous_access, 45.0, ("reach",)),)


def _judged(context: Context, answered: str) -> Finding:
    auth = context.settings.auth
    may = "Whoever reaches this address may train and promote models"
    if auth.anonymous and not auth.has_credentials:
        return warn(f"{may}, as FITLOOP_ANONYMOUS=true asks for. {answered}", _SET)
    if not auth.has_credentials and _is_this_machine(context):
        return warn(f"Whoever uses this machine may train and promote models. {answered}", _SET)
    return fail(f"{may} without a login. {answered}", _SET)


def _is_this_machine(context: Context) -> bool:
    host = urlsplit(context.url).hostname or ""
    is_loopback = host in {"localhost", "::1"} or (is_address(host) and host.startswith("127."))
    return context.location is Location.MACHINE and is_loopback


def _doors(context: Context) -> list[_Door]:
    wrong = (context.settings.auth.username or "fitloop", secrets.token_urlsafe())
    doors = [
        _Door("GET", "/api/projects", _lists_projects),
        _Door("GET", "/", _is_page),
        _Door("POST", "/setup", _is_setup),
        _Door("GET", "/api/projects", _lists_projects, login=wrong),
    ]
    if urlsplit(context.url).path.rstrip("/") != _prefix(context):
        doors += [
            _Door("GET", "/api/projects", _lists_projects, below=True),
            _Door("GET", "/", _is_page, below=True),
        ]
    return doors


def _is_open(context: Context, door: _Door) -> bool:
    url = without_credentials(context.url)
    parts = urlsplit(url)
    base = url if door.below else f"{parts.scheme}://{parts.netloc}{_prefix(context)}"
    body: dict[str, str] | None = {} if door.method == "POST" else None
    return door.opened(send(context, httpx.Request(door.method, base + door.path, json=body), door.login))


def _prefix(context: Context) -> str:
    """The path that the ingress takes off, where the URL has it."""
    prefix = context.settings.auth.path_prefix.rstrip("/")
    return prefix if f"{urlsplit(context.url).path}/".startswith(f"{prefix}/") else ""


def _lists_projects(answer: httpx.Response) -> bool:
    """503 is the answer of an adapter that is still reading its state, to whom it let in."""
    is_starting = answer.status_code == httpx.codes.SERVICE_UNAVAILABLE and "Fitloop" in str(
        json_object(answer).get("detail")
    )
    return is_starting or (answer.is_success and "projects" in json_object(answer))


def _is_page(answer: httpx.Response) -> bool:
    """In JSON, because the request names no HTML."""
    return answer.is_success and json_object(answer).get("model_class") == "Fitloop"


def _is_setup(answer: httpx.Response) -> bool:
    """400 is the answer to whom it let in: the body names no project."""
    is_ours = answer.status_code == httpx.codes.BAD_REQUEST and "detail" in json_object(answer)
    return is_ours or (answer.is_success and "model_version" in json_object(answer))
