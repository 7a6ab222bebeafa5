"""Failed logins per peer: wrong answers are held back longer and longer, counted, and logged once a minute."""

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
"""Failures in a row that cost nothing: people mistype, and browsers ask again by themselves."""

FIRST_DELAY_SECONDS: Final = 0.25

MAX_DELAY_SECONDS: Final = 4.0
"""Delay of the first failure beyond `FREE`, which doubles with each one, and its bound: Label Studio gives /setup 3 s."""

RESET_SECONDS: Final = 600.0

MAX_DELAYED_PER_PEER: Final = 8
"""Answers held back for one peer; beyond, its logins are not looked at (429), unless it logged in lately."""

MAX_DELAYED: Final = 200
"""Answers held back for all peers: more would cost the connections that Label Studio needs."""

_MAX_PEERS: Final = 10_000

_LOG_SECONDS: Final = 60.0


@dataclass(slots=True)
class Peer:
    """What one address did lately."""

    failures: int = 0
    failed_at: float = float("-inf")
    succeeded_at: float = float("-inf")
    delayed: int = 0
    unlogged: int = 0
    logged_at: float = float("-inf")

    def reset_when_quiet(self, now: float) -> None:
        """Begin anew after ten quiet minutes."""
        if now - self.failed_at > RESET_SECONDS:
            self.failures = 0

    @property
    def delay(self) -> float:
        """Seconds by which the next wrong answer is held back."""
        beyond = self.failures - FREE_FAILURES
        return (
            0.0 if beyond <= 0 else min(FIRST_DELAY_SECONDS * 2.0 ** min(beyond - 1, 10), MAX_DELAY_SECONDS)
        )


@dataclass(slots=True)
class LoginAttempts:
    """Peers by address, the least recently failing forgotten first. Times are of a monotonic clock, in seconds."""

    peers: OrderedDict[str, Peer] = field(default_factory=OrderedDict)
    delayed: int = 0

    def is_blocked(self, address: str, now: float) -> bool:
        """Whether a login of this peer is not even looked at: too many of its wrong answers wait already."""
        peer = self.peers.get(_peer_key(address))
        return (
            peer is not None
            and peer.delayed >= MAX_DELAYED_PER_PEER
            and now - peer.succeeded_at > RESET_SECONDS
        )

    def record_success(self, address: str, now: float) -> None:
        """A right login: many people and servers may share the address, so others' failures do not close it."""
        if peer := self.peers.get(_peer_key(address)):
            peer.succeeded_at = now
        else:
            self._peer(address).succeeded_at = now

    def record_failure(self, address: str, now: float) -> float:
        """A wrong login; the seconds by which its answer is to be held back, -1 where it is to be refused at once."""
        peer = self._peer(address)
        peer.reset_when_quiet(now)
        peer.failures, peer.failed_at, peer.unlogged = peer.failures + 1, now, peer.unlogged + 1
        if now - peer.logged_at >= _LOG_SECONDS:
            log.warning("login_failed", peer=_peer_key(address), failures=peer.unlogged)
            peer.unlogged, peer.logged_at = 0, now
        is_full = peer.delayed >= MAX_DELAYED_PER_PEER or self.delayed >= MAX_DELAYED
        return -1.0 if peer.delay and is_full else peer.delay

    def count_delayed(self, address: str, by: int) -> None:
        """One answer more (1) or less (-1) is held back."""
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
    """An IPv6 address by its /64, which is one customer's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network(f"{found}/64", strict=False))
    return str(found.ipv4_mapped or found) if found.version == 6 else str(found)


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
