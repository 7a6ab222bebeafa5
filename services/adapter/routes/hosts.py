"""Host names that are answered where nobody has to log in: any web page can make a name of its own point to 127.0.0.1.

That is DNS rebinding: the browser takes the page and what answers at its name for one origin. The name stays the page's.
"""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

from services.core.settings import AuthSettings

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
REFUSED: Final = (
    "This Fitloop has no password, and so answers only to names that it knows: call it localhost or 127.0.0.1, add the name "
    "to FITLOOP_ALLOWED_HOSTS, or set BASIC_AUTH_USER and BASIC_AUTH_PASS."
)


def known_hosts(auth: AuthSettings) -> frozenset[str] | None:
    """The names that are answered, lower case and without a port; None where any is."""
    is_open_to_all = auth.anonymous and not auth.allowed_hosts
    if auth.has_credentials or is_open_to_all:
        return None
    return _LOOPBACK | {bare(host) for host in auth.allowed_hosts}


def is_known(scope: Scope, hosts: frozenset[str]) -> bool:
    """Whether the request has one Host header, and that names a host that is known."""
    named = [bytes(value) for name, value in scope["headers"] if name == b"host"]
    return len(named) == 1 and bare(named[0].decode("latin-1")) in hosts


def bare(host: str) -> str:
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
