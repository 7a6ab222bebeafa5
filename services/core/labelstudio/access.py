"""Access to Label Studio, in both directions: URLs at which it can reach us, and the tokens that we send.

A legacy token is sent as it is. A personal access token is a JWT that is only sent to `<url>/api/token/refresh/`, which
returns an access token for some minutes; the path of the URL is kept, as Label Studio may be behind a proxy.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, Final
from urllib.parse import urlsplit

import httpx

URL_ADVICE: Final = (
    "Use the full name, such as http://fitloop.<namespace>.svc.cluster.local, an IP address, or a host of the ingress with a "
    "dot in it."
)

AUTH_ADVICE: Final = (
    "Connect the URL with FITLOOP_SECRET_PATH as its path, or with http://<user>:<password>@ before the host."
)

_HOST_LABEL = r"[a-z0-9\u00a1-\uffff](?:[a-z0-9\u00a1-\uffff-]{0,61}[a-z0-9\u00a1-\uffff])?"

_HOST = re.compile(
    rf"(?:{_HOST_LABEL}(?:\.{_HOST_LABEL})*\.(?:[a-z\u00a1-\uffff-]{{2,63}}|xn--[a-z0-9]{{1,59}})\.?|localhost)",
    re.IGNORECASE,
)
"""Django's rule for the host of a URL."""

_ROUTES = ("/webhook", "/health", "/setup", "/predict", "/versions")


def missing_token_message(url: str) -> str:
    return (
        f"LABEL_STUDIO_API_KEY is not set, so labels cannot be read from {url} and nothing will be trained: copy a token "
        "from Label Studio (Account & Settings), set it, and start again."
    )


def backend_url_problem(url: str) -> str:
    """Return why Label Studio, connected to that URL, would send no events or wrong requests; "" if it is fine."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "it cannot be read"
    if parts.scheme not in {"http", "https"} or not host:
        return "it must be http://<host> or https://<host>"
    if parts.query or parts.fragment:
        return "it has a '?' or a '#', and Label Studio appends its paths after that"
    if parts.path.rstrip("/").endswith(_ROUTES):
        return "it ends in a route: Label Studio adds /health, /predict and so on itself"
    return _host_problem(host)


def is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _host_problem(host: str) -> str:
    if is_ip_address(host) or _HOST.fullmatch(host):
        return ""
    if "." not in host:
        return f"its host {host!r} is one word: Label Studio connects to it but creates no webhook, and reports no error"
    if "_" in host:
        return f"its host {host!r} has a '_': Label Studio creates no webhook for it, and reports no error"
    return f"its host {host!r} does not end in a top-level domain (letters only): Label Studio creates no webhook for it"


_REFRESH: Final = "api/token/refresh/"

_UNUSED_LIFETIME: Final = 0.2
"""Share of an access token's lifetime that is left unused, as requests take time."""

_DEFAULT_LIFETIME: Final = 60.0
"""For an access token without an expiry."""


class RefreshRefused(Exception):
    """The token refresh returned no access token."""

    def __init__(self, response: httpx.Response) -> None:
        """Keep the response, whose body has been read."""
        super().__init__(response.status_code)
        self.response = response


class TokenAuth(httpx.Auth):
    """Authenticate each request; raises RefreshRefused if a personal token is not exchanged."""

    def __init__(self, key: str, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the token and Label Studio's URL, with its path and without a slash at the end."""
        self._key, self._url, self._clock = key, url, clock
        self._is_personal = bool(jwt_claims(key))
        self._access, self._until = "", 0.0
        self._lock = threading.Lock()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """Authenticate the request; retry once with a new access token after a 401, since clocks and keys change."""
        if not self._is_personal:
            request.headers["Authorization"] = f"Token {self._key}"
            yield request
            return
        access = yield from self._current()
        request.headers["Authorization"] = f"Bearer {access}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            access = yield from self._current(instead_of=access)
            request.headers["Authorization"] = f"Bearer {access}"
            yield request

    def _current(self, instead_of: str = "") -> Generator[httpx.Request, httpx.Response, str]:
        """Return a valid access token; only one thread refreshes it."""
        with self._lock:
            if self._access == instead_of or self._clock() >= self._until:
                asked = httpx.Request("POST", f"{self._url}/{_REFRESH}", json={"refresh": self._key})
                response = yield asked
                response.read()
                self._take(response)
            return self._access

    def _take(self, response: httpx.Response) -> None:
        found = _json_object(response)
        access = found.get("access") if response.is_success else None
        if not isinstance(access, str) or not access.isascii() or not access.isprintable():
            raise RefreshRefused(response)
        # By lifetime, not by expiry: our clock and Label Studio's may differ.
        self._access, self._until = access, self._clock() + _lifetime(access) * (1 - _UNUSED_LIFETIME)


def jwt_claims(key: str) -> dict[str, object]:
    """Return the claims of a JWT, unverified; {} for a legacy token."""
    parts = key.split(".")
    if len(parts) != 3:
        return {}
    try:
        found = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def token_problem(key: str, now: float) -> str:
    """Return why no request with the token can succeed, as far as the token itself tells; else ""."""
    if not key:
        return "LABEL_STUDIO_API_KEY is not set: create a token on Label Studio's Account & Settings page."
    claims = jwt_claims(key)
    expires = claims.get("exp")
    if claims.get("token_type") == "access":
        return (
            "LABEL_STUDIO_API_KEY is an access token, which expires within minutes: use a personal access token from Label "
            "Studio's Account & Settings page."
        )
    if isinstance(expires, int | float) and expires < now:
        return (
            "LABEL_STUDIO_API_KEY has expired: create a new token on Label Studio's Account & Settings page."
        )
    return ""


def _lifetime(access: str) -> float:
    claims = jwt_claims(access)
    begins, ends = claims.get("iat"), claims.get("exp")
    known = isinstance(begins, int | float) and isinstance(ends, int | float) and ends > begins
    return float(ends) - float(begins) if known else _DEFAULT_LIFETIME  # type: ignore[arg-type]  # numbers, as `known` says


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        found = response.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
