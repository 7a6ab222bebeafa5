"""Why a server cannot be reached, as one sentence that says which setting to change, whichever client met it. Pure.

`fault_of` looks for the cause below an error of httpx, urllib3 or ssl; `sentence_of` says it. No client's own words are used.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from socket import gaierror
from typing import Final


class Fault(StrEnum):
    """What went wrong on the way to a server, with the sentence for it."""

    UNKNOWN_AUTHORITY = "The certificate of {at} is signed by an authority that is not known here: set {ca} to the authority's certificate (PEM)."
    OTHER_HOST = "The certificate of {at} is for other host names: use a name that it holds in {url}, or have one made for this host."
    EXPIRED = "The certificate of {at} has expired: renew it."
    NOT_YET = "The certificate of {at} is not valid yet: correct the clock here, or the certificate."
    UNTRUSTED = "The certificate of {at} is not accepted: have it made anew, or set {ca} to the certificate of its authority (PEM)."
    WANTS_CERTIFICATE = (
        "{at} asks for a certificate of the client, which Fitloop has none of: use another address in {url}."
    )
    SPEAKS_HTTP = "{at} does not speak TLS: write http:// in {url}, or the port of its TLS."
    HANDSHAKE = (
        "{at} speaks no TLS that is supported here (1.2 or later): correct its TLS settings, or {url}."
    )
    SPEAKS_TLS = "{at} speaks TLS: write https:// in {url}."
    NO_HOST = "The host of {at} is not known here: correct {url}, or make the name known to the DNS."
    REFUSED = "{at} takes no connection: start it, or correct the host and the port in {url}."
    NO_ROUTE = "No network leads to {at}: correct {url}, or the network."
    CONNECT_TIME = (
        "{at} takes no connection within its time: correct {url}, or let a firewall or NetworkPolicy pass it."
    )
    READ_TIME = "{at} takes a connection, and does not answer in time: see whether it is overloaded."
    BROKE_OFF = "{at} closes connections before it answers: see its log, or that of a proxy before it."
    BROKE_OFF_PLAIN = "{at} closes connections before it answers: write https:// in {url} if it speaks TLS; else see its log."
    REDIRECTS = "{at} redirects without end: correct {url}, or the proxy before it."
    PROXY = "The proxy that HTTP_PROXY or HTTPS_PROXY names does not pass requests to {at}: correct it, or name the host in NO_PROXY."
    UNKNOWN = "{at} does not answer: see whether it runs, and correct {url}."

    @property
    def is_tls(self) -> bool:
        """Whether a person must change something before it works."""
        return self in _TLS


_TLS: Final = frozenset(
    {
        Fault.UNKNOWN_AUTHORITY,
        Fault.OTHER_HOST,
        Fault.EXPIRED,
        Fault.NOT_YET,
        Fault.UNTRUSTED,
        Fault.WANTS_CERTIFICATE,
        Fault.SPEAKS_HTTP,
        Fault.HANDSHAKE,
        Fault.SPEAKS_TLS,
    }
)
_CODES: Final = {
    2: Fault.UNKNOWN_AUTHORITY,
    9: Fault.NOT_YET,
    10: Fault.EXPIRED,
    18: Fault.UNKNOWN_AUTHORITY,
    19: Fault.UNKNOWN_AUTHORITY,
    20: Fault.UNKNOWN_AUTHORITY,
    21: Fault.UNKNOWN_AUTHORITY,
    62: Fault.OTHER_HOST,
    64: Fault.OTHER_HOST,
}
"""OpenSSL's codes of why a certificate is refused."""
_NO_TLS: Final = frozenset(
    {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "UNKNOWN_PROTOCOL", "HTTP_REQUEST"}
)
_WORDS: Final = (
    ("TooManyRedirects", Fault.REDIRECTS),
    ("ProxyError", Fault.PROXY),
    ("NameResolutionError", Fault.NO_HOST),
    ("ConnectTimeout", Fault.CONNECT_TIME),
    ("PoolTimeout", Fault.READ_TIME),
    ("ReadTimeout", Fault.READ_TIME),
    ("WriteTimeout", Fault.READ_TIME),
    ("Protocol", Fault.BROKE_OFF),
    ("ReadError", Fault.BROKE_OFF),
    ("WriteError", Fault.BROKE_OFF),
    ("CloseError", Fault.BROKE_OFF),
    ("IncompleteRead", Fault.BROKE_OFF),
)
"""Names of the clients' errors, or parts of them: core imports neither client here."""
_KINDS: Final[tuple[tuple[type[BaseException], Fault], ...]] = (
    (ConnectionError, Fault.BROKE_OFF),
    (EOFError, Fault.BROKE_OFF),
    (TimeoutError, Fault.CONNECT_TIME),
    (OSError, Fault.NO_ROUTE),
)
"""Where nothing better is known, in this order."""


_BRIEF: Final = {
    Fault.UNKNOWN_AUTHORITY: "a certificate of an authority that is not known here",
    Fault.OTHER_HOST: "a certificate for other host names",
    Fault.EXPIRED: "a certificate that has expired",
    Fault.NOT_YET: "a certificate that is not valid yet",
    Fault.UNTRUSTED: "a certificate that is not accepted",
    Fault.WANTS_CERTIFICATE: "a certificate of the client is asked for",
    Fault.SPEAKS_HTTP: "no TLS is spoken there",
    Fault.HANDSHAKE: "no common TLS",
    Fault.NO_HOST: "its host is not known",
    Fault.REFUSED: "connection refused",
    Fault.NO_ROUTE: "no network leads there",
    Fault.CONNECT_TIME: "no connection in time",
    Fault.READ_TIME: "no answer in time",
    Fault.BROKE_OFF: "the connection broke off",
    Fault.REDIRECTS: "redirects without end",
    Fault.PROXY: "a proxy does not pass it on",
}


@dataclass(frozen=True, slots=True)
class Server:
    """A server as a sentence names it."""

    at: str
    """As "Label Studio at https://…"."""
    url: str
    """The setting that holds its address."""
    ca: str
    """The setting that names its authority's certificates."""


def fault_of(error: BaseException) -> Fault:
    """The cause that a person can do something about."""
    causes = list(_causes(error))
    told = (_of_cause(cause) for cause in causes)
    if found := next(filter(None, told), None):
        return found
    named = (fault for cause in causes for word, fault in _WORDS if word in type(cause).__name__)
    if found := next(named, None):
        return found
    for kind, fault in _KINDS:
        if any(isinstance(cause, kind) for cause in causes):
            return fault
    return Fault.UNKNOWN


def brief_of(error: BaseException) -> str:
    """The cause in a few words, to stand in brackets."""
    return _BRIEF.get(fault_of(error), "no connection")


def sentence_of(error: BaseException, server: Server, *, plain: bool) -> str:
    """`plain`: whether the address begins with http://."""
    fault = fault_of(error)
    if fault is Fault.BROKE_OFF and plain:
        fault = Fault.BROKE_OFF_PLAIN
    said = fault.value.format(at=server.at, url=server.url, ca=server.ca)
    return said[0].upper() + said[1:]


def _of_cause(cause: BaseException) -> Fault | None:
    """Of what the operating system or OpenSSL says."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return _CODES.get(cause.verify_code, Fault.UNTRUSTED)
    if isinstance(cause, ssl.SSLError):
        return _of_tls(cause)
    if isinstance(cause, gaierror | UnicodeError):
        return Fault.NO_HOST
    return Fault.REFUSED if isinstance(cause, ConnectionRefusedError) else None


def _of_tls(error: ssl.SSLError) -> Fault | None:
    reason = str(error.reason or "").upper()
    if any(word in reason for word in _NO_TLS):
        return Fault.SPEAKS_HTTP
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        return Fault.WANTS_CERTIFICATE if "CERTIFICATE" in reason else Fault.HANDSHAKE
    return None if "EOF" in reason or isinstance(error, ssl.SSLZeroReturnError) else Fault.HANDSHAKE


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what lies below it; each client has its own place for that."""
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
