"""Addresses among the settings: `http_url` takes what a client can call, and says what is wrong with anything else. Pure."""

from __future__ import annotations

from urllib.parse import SplitResult, urlsplit

_MAX_LABEL_BYTES = 63
"""Bytes between two dots of a host's name."""
_BAD_SCHEME = "it must begin with http:// or https://"
_HAS_LOGIN = "a user name and a password have no place in it"


def http_url(value: str, *, path: bool = True, login: bool = False, instead: str = "") -> str:
    """The address without "/" at its end. Raises ValueError, which does not repeat it: it may hold a password.

    `path`: whether it may have one. `login`: whether `user:password@` may stand in it. `instead`: what counts in its place.
    """
    scheme, _, rest = value.partition("://")
    if scheme.lower() not in {"http", "https"} or not rest:
        raise ValueError(_BAD_SCHEME)
    value = f"{scheme.lower()}://{rest}".rstrip("/")
    parts, port = _split_url(value)
    if "@" in parts.netloc and not login:
        raise ValueError(f"{_HAS_LOGIN}: {instead}" if instead else _HAS_LOGIN)
    if "?" in value or "#" in value:
        raise ValueError("a query (?…) or a fragment (#…) has no place in it: leave it out")
    if "\\" in value or "//" in parts.path:
        raise ValueError("its path holds an empty part or a backslash: is it two addresses in one?")
    if parts.path and not path:
        raise ValueError("it must be a host alone, without a path")
    _check_host(parts, port)
    return value


def _split_url(value: str) -> tuple[SplitResult, int | None]:
    try:
        parts = urlsplit(value)
        port = parts.port
    except ValueError as error:
        raise ValueError("its host or its port cannot be read: a port is a number from 1 to 65535") from error
    if port == 0:
        raise ValueError("its port is 0: a port is a number from 1 to 65535")
    return parts, port


def _check_host(parts: SplitResult, port: int | None) -> None:
    """As the client reads it, which knows names in all scripts. Raises ValueError."""
    import httpx  # noqa: PLC0415  # a tenth of a second, which only those pay who set an address

    host = parts.hostname or ""
    if not host or (":" not in host and ("%" in host or host.startswith(".") or ".." in host)):
        raise ValueError("it names no host")
    if parts.netloc.endswith(":"):
        raise ValueError("a port must follow the ':' after its host")
    try:
        found = httpx.URL(parts.geturl())
        labels = found.raw_host.rstrip(b".").split(b".") if found.host else []
    except (httpx.InvalidURL, ValueError):
        raise ValueError("its host is not a name that can be looked up") from None
    if found.port not in {port, None} or not labels or max(map(len, labels)) > _MAX_LABEL_BYTES:
        raise ValueError("its host is not a name that can be looked up")
