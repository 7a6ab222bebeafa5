"""Logins: who sent a request, and failed attempts per peer, whose answers are delayed, counted and logged once a minute."""

from __future__ import annotations

import base64
import binascii
import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import structlog
from starlette.requests import Request

from services.core.redaction import redact

log = structlog.get_logger()

LOGGED_IN: Final = "fitloop.logged-in"
"""In a request's scope: True if valid Basic credentials were required and given."""

FREE_FAILURES: Final = 5
"""Consecutive failures without a delay: people mistype, and browsers retry."""

FIRST_DELAY_SECONDS: Final = 0.25

MAX_DELAY_SECONDS: Final = 4.0
"""The delay starts after FREE_FAILURES and doubles up to this: Label Studio waits 3 s for /setup."""

RESET_SECONDS: Final = 600.0

MAX_DELAYED_PER_PEER: Final = 8
"""Delayed answers per peer; above, its logins are refused unchecked (429), unless it logged in recently."""

MAX_DELAYED: Final = 200
"""Delayed answers of all peers: more would use up connections that Label Studio needs."""

_MAX_PEERS: Final = 10_000

_LOG_SECONDS: Final = 60.0


@dataclass(slots=True)
class Peer:
    """Recent logins from one address."""

    failures: int = 0
    failed_at: float = float("-inf")
    succeeded_at: float = float("-inf")
    delayed: int = 0
    unlogged: int = 0
    logged_at: float = float("-inf")

    def reset_when_quiet(self, now: float) -> None:
        """Forget failures after ten quiet minutes."""
        if now - self.failed_at > RESET_SECONDS:
            self.failures = 0

    @property
    def delay(self) -> float:
        """Seconds to delay the answer to the latest failure."""
        beyond = self.failures - FREE_FAILURES
        return (
            0.0 if beyond <= 0 else min(FIRST_DELAY_SECONDS * 2.0 ** min(beyond - 1, 10), MAX_DELAY_SECONDS)
        )


@dataclass(slots=True)
class LoginAttempts:
    """Peers by address; the least recently active are dropped first. Times are monotonic seconds."""

    peers: OrderedDict[str, Peer] = field(default_factory=OrderedDict)
    delayed: int = 0

    def is_blocked(self, address: str, now: float) -> bool:
        """Whether to refuse a login unchecked, because too many answers to this peer are delayed already."""
        peer = self.peers.get(_peer_key(address))
        return (
            peer is not None
            and peer.delayed >= MAX_DELAYED_PER_PEER
            and now - peer.succeeded_at > RESET_SECONDS
        )

    def record_success(self, address: str, now: float) -> None:
        """Record a login: many clients may share an address, so failures of others do not block it."""
        if peer := self.peers.get(_peer_key(address)):
            peer.succeeded_at = now
        else:
            self._peer(address).succeeded_at = now

    def record_failure(self, address: str, now: float) -> float:
        """Record a failed login; return the seconds to delay its answer, or -1 to refuse it at once."""
        peer = self._peer(address)
        peer.reset_when_quiet(now)
        peer.failures, peer.failed_at, peer.unlogged = peer.failures + 1, now, peer.unlogged + 1
        if now - peer.logged_at >= _LOG_SECONDS:
            log.warning("login_failed", peer=_peer_key(address), failures=peer.unlogged)
            peer.unlogged, peer.logged_at = 0, now
        is_full = peer.delayed >= MAX_DELAYED_PER_PEER or self.delayed >= MAX_DELAYED
        return -1.0 if peer.delay and is_full else peer.delay

    def count_delayed(self, address: str, by: int) -> None:
        """Count one delayed answer more (1) or less (-1)."""
        self.delayed += by
        self._peer(address).delayed += by

    def _peer(self, address: str) -> Peer:
        key = _peer_key(address)
        peer = self.peers.setdefault(key, Peer())
        self.peers.move_to_end(key)
        if len(self.peers) > _MAX_PEERS:
            quiet = next((one for one, other in self.peers.items() if not other.delayed and one != key), None)
            if quiet is not None:
                del self.peers[quiet]
        return peer


def _peer_key(address: str) -> str:
    """Group IPv6 addresses by /64, which belongs to one customer."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network(f"{found}/64", strict=False))
    return str(found.ipv4_mapped or found) if found.version == 6 else str(found)


MAX_REQUESTER: Final = 100
"""Characters of a requester's description, which is stored, logged and shown."""

ANONYMOUS: Final = "anonymous"

_MAX_ADDRESS: Final = 46
"""Characters of the longest IPv6 address; the name gets the rest."""


def requester_of(request: Request) -> str:
    """Return "anna from 10.0.0.7"; the name only if it was authenticated."""
    name = _username(request.headers.get("authorization", "")) if request.scope.get(LOGGED_IN) else ""
    return _describe(name or ANONYMOUS, request)


def label_studio_requester(request: Request) -> str:
    """Describe a request of Label Studio, whose credentials do not identify its users."""
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
    """Return the host if it is an IP address: behind a proxy it comes from a header."""
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return ""
