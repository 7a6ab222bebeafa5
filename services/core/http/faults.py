"""Why a server cannot be reached, as a message that names the setting to change, whichever client failed. Pure.

`find_fault` searches the causes of an error of httpx, urllib3 or ssl; `describe_fault` words it. No text of a client is used.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from socket import gaierror
from typing import Final

import certifi

from services.core.errors import BadConfig


class Fault(StrEnum):
    """What went wrong on the way to a server, with its message."""

    UNKNOWN_AUTHORITY = "The certificate of {at} is signed by a CA that is not trusted here: set {ca} to the CA's certificate (PEM)."
    HOST_MISMATCH = "The certificate of {at} is for other host names: use one of its names in {url}, or issue a certificate for this host."
    EXPIRED = "The certificate of {at} has expired: renew it."
    NOT_YET_VALID = (
        "The certificate of {at} is not valid yet: correct the clock of this machine, or the certificate."
    )
    UNTRUSTED = "The certificate of {at} is not accepted: have it reissued, or set {ca} to the certificate of its authority (PEM)."
    CLIENT_CERTIFICATE = (
        "{at} requires a client certificate, and Fitloop has none: use another address in {url}."
    )
    SPEAKS_HTTP = "{at} does not speak TLS: use http:// in {url}, or its TLS port."
    HANDSHAKE = "{at} does not support TLS 1.2 or later: correct its TLS settings, or {url}."
    SPEAKS_TLS = "{at} speaks TLS: use https:// in {url}."
    UNKNOWN_HOST = "The host of {at} cannot be resolved: correct {url}, or add the name to the DNS."
    CONNECTION_REFUSED = "{at} accepts no connections: start it, or correct the host and the port in {url}."
    NO_ROUTE = "There is no route to {at}: correct {url}, or the network."
    CONNECT_TIMEOUT = (
        "{at} accepts no connection in time: correct {url}, or let a firewall or NetworkPolicy pass it."
    )
    READ_TIMEOUT = "{at} accepts the connection but does not answer in time: check whether it is overloaded."
    CONNECTION_LOST = (
        "{at} closes connections before it answers: see its log, or that of a proxy in front of it."
    )
    CONNECTION_LOST_PLAIN = "{at} closes connections before it answers: use https:// in {url} if it speaks TLS; otherwise see its log."
    TOO_MANY_REDIRECTS = "{at} redirects endlessly: correct {url}, or the proxy in front of it."
    PROXY = "The proxy set in HTTP_PROXY or HTTPS_PROXY does not pass requests to {at}: correct it, or add the host to NO_PROXY."
    UNKNOWN = "{at} does not answer: check that it is running, and correct {url}."

    @property
    def is_tls(self) -> bool:
        """Return whether a person must change something before it works."""
        return self in _TLS_FAULTS


_TLS_FAULTS: Final = frozenset(
    {
        Fault.UNKNOWN_AUTHORITY,
        Fault.HOST_MISMATCH,
        Fault.EXPIRED,
        Fault.NOT_YET_VALID,
        Fault.UNTRUSTED,
        Fault.CLIENT_CERTIFICATE,
        Fault.SPEAKS_HTTP,
        Fault.HANDSHAKE,
        Fault.SPEAKS_TLS,
    }
)

_VERIFY_CODES: Final = {
    2: Fault.UNKNOWN_AUTHORITY,
    9: Fault.NOT_YET_VALID,
    10: Fault.EXPIRED,
    18: Fault.UNKNOWN_AUTHORITY,
    19: Fault.UNKNOWN_AUTHORITY,
    20: Fault.UNKNOWN_AUTHORITY,
    21: Fault.UNKNOWN_AUTHORITY,
    62: Fault.HOST_MISMATCH,
    64: Fault.HOST_MISMATCH,
}
"""OpenSSL's codes for a refused certificate."""

_PLAIN_HTTP_REASONS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"}
)

_BY_CLASS_NAME: Final = (
    ("TooManyRedirects", Fault.TOO_MANY_REDIRECTS),
    ("ProxyError", Fault.PROXY),
    ("NameResolutionError", Fault.UNKNOWN_HOST),
    ("ConnectTimeout", Fault.CONNECT_TIMEOUT),
    ("PoolTimeout", Fault.READ_TIMEOUT),
    ("ReadTimeout", Fault.READ_TIMEOUT),
    ("WriteTimeout", Fault.READ_TIMEOUT),
    ("Protocol", Fault.CONNECTION_LOST),
    ("ReadError", Fault.CONNECTION_LOST),
    ("WriteError", Fault.CONNECTION_LOST),
    ("CloseError", Fault.CONNECTION_LOST),
    ("IncompleteRead", Fault.CONNECTION_LOST),
)
"""Names of the clients' error classes, or parts of them, so that no client is imported here."""

_BY_CLASS: Final[tuple[tuple[type[BaseException], Fault], ...]] = (
    (ConnectionError, Fault.CONNECTION_LOST),
    (EOFError, Fault.CONNECTION_LOST),
    (TimeoutError, Fault.CONNECT_TIMEOUT),
    (OSError, Fault.NO_ROUTE),
)
"""Fallback, in this order."""

_BRIEF: Final = {
    Fault.UNKNOWN_AUTHORITY: "a certificate of a CA that is not trusted here",
    Fault.HOST_MISMATCH: "a certificate for other host names",
    Fault.EXPIRED: "a certificate that has expired",
    Fault.NOT_YET_VALID: "a certificate that is not valid yet",
    Fault.UNTRUSTED: "a certificate that is not accepted",
    Fault.CLIENT_CERTIFICATE: "a client certificate is required",
    Fault.SPEAKS_HTTP: "the server does not speak TLS",
    Fault.HANDSHAKE: "no common TLS version",
    Fault.UNKNOWN_HOST: "its host cannot be resolved",
    Fault.CONNECTION_REFUSED: "connection refused",
    Fault.NO_ROUTE: "no route to the host",
    Fault.CONNECT_TIMEOUT: "no connection in time",
    Fault.READ_TIMEOUT: "no answer in time",
    Fault.CONNECTION_LOST: "the connection broke off",
    Fault.TOO_MANY_REDIRECTS: "endless redirects",
    Fault.PROXY: "a proxy does not pass the request on",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server as messages name it."""

    at: str
    """As "Label Studio at https://…"."""
    url: str
    """The setting that holds its address."""
    ca: str
    """The setting that names its authority's certificates."""


def find_fault(error: BaseException) -> Fault:
    """Return the cause that a person can act on."""
    causes = list(_causes(error))
    faults = (_find_in(cause) for cause in causes)
    if found := next(filter(None, faults), None):
        return found
    named = (fault for cause in causes for word, fault in _BY_CLASS_NAME if word in type(cause).__name__)
    if found := next(named, None):
        return found
    for kind, fault in _BY_CLASS:
        if any(isinstance(cause, kind) for cause in causes):
            return fault
    return Fault.UNKNOWN


def describe_fault_briefly(error: BaseException) -> str:
    """Return the cause in a few words, to be put in brackets."""
    return _BRIEF.get(find_fault(error), "no connection")


def describe_fault(error: BaseException, server: Server, *, plain: bool) -> str:
    """Return the message for the cause. `plain`: whether the address begins with http://."""
    fault = find_fault(error)
    if fault is Fault.CONNECTION_LOST and plain:
        fault = Fault.CONNECTION_LOST_PLAIN
    message = fault.value.format(at=server.at, url=server.url, ca=server.ca)
    return message[0].upper() + message[1:]


def _find_in(cause: BaseException) -> Fault | None:
    """Classify errors of the operating system and of OpenSSL."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _VERIFY_CODES.get(cause.verify_code, Fault.UNTRUSTED)
    if isinstance(cause, ssl.SSLError):
        return _find_in_tls(cause)
    if isinstance(cause, gaierror | UnicodeError):
        return Fault.UNKNOWN_HOST
    return Fault.CONNECTION_REFUSED if isinstance(cause, ConnectionRefusedError) else None


def _find_in_tls(error: ssl.SSLError) -> Fault | None:
    reason = str(error.reason or "").upper()
    if any(word in reason for word in _PLAIN_HTTP_REASONS):
        return Fault.SPEAKS_HTTP
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return Fault.CLIENT_CERTIFICATE if "CERTIFICATE" in reason else Fault.HANDSHAKE
    return None if "EOF" in reason or isinstance(error, ssl.SSLZeroReturnError) else Fault.HANDSHAKE


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and its causes; each client keeps them in a place of its own."""
    seen: set[int] = set()
    left: list[BaseException] = [error]
    while left:
        found = left.pop(0)
        if id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        below = [found.__cause__, found.__context__, getattr(found, "reason", None), *found.args]
        left += [one for one in below if isinstance(one, BaseException)]


def client_ssl_context(ca_file: Path | None, variable: str) -> ssl.SSLContext:
    """Return a client's SSL context. Raises BadConfig that names the variable if its file contains no certificate."""
    context = ssl.create_default_context()
    context.load_verify_locations(certifi.where())
    if ca_file:
        try:
            context.load_verify_locations(ca_file)
        except (OSError, ssl.SSLError) as error:
            raise BadConfig(
                f"{variable} {str(ca_file)!r} contains no readable certificate (PEM): mount the CA's certificate there."
            ) from error
    return context
