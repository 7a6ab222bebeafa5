"""Who asked for something: the user name of the request's Basic credentials, and the address that it came from.

What a client writes is bounded, kept to one line of printable characters, and cleaned of secrets, because it is stored,
logged and shown.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
from typing import Final

from starlette.requests import Request

from services.adapter.routes.logins import LOGGED_IN
from services.core.redaction import redact

MAX_REQUESTER: Final = 100
"""Characters."""
ANONYMOUS: Final = "anonymous"
_MAX_ADDRESS: Final = 46
"""Characters of the longest IPv6 address; with " from " they leave the rest to the name."""


def requester_of(request: Request) -> str:
    """As "anna from 10.0.0.7"; a name that nothing was compared with is not repeated."""
    name = _username(request.headers.get("authorization", "")) if request.scope.get(LOGGED_IN) else ""
    return _describe(name or ANONYMOUS, request)


def label_studio_requester(request: Request) -> str:
    """Who pressed a button in Label Studio: it calls with credentials of its own, which say nothing of its users."""
    return _describe("Label Studio", request)


def _describe(name: str, request: Request) -> str:
    shown = "".join(letter for letter in redact(name) if letter.isprintable())
    shown = shown[: MAX_REQUESTER - _MAX_ADDRESS - len(" from ")].strip() or ANONYMOUS
    address = _address(request.client.host if request.client else "")
    return f"{shown} from {address}" if address else shown


def _username(authorization: str) -> str:
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        given = base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        return ""
    name, colon, _ = given.partition(b":")
    if not colon:
        return ""
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name.decode("latin-1")


def _address(host: str) -> str:
    """Nothing but an IP address: behind a proxy it comes from a header."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return ""
