"""Failed logins per peer: wrong answers are held back longer and longer, counted, and logged once a minute."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

import structlog

log = structlog.get_logger()
FREE: Final = 5
"""Failures in a row that cost nothing: people mistype, and browsers ask again by themselves."""
FIRST_SECONDS: Final = 0.25
MOST_SECONDS: Final = 4.0
"""Delay of the first failure beyond `FREE`, which doubles with each one, and its bound: Label Studio gives /setup 3 s."""
FORGET_SECONDS: Final = 600.0
HELD: Final = 8
"""Answers held back for one peer; beyond, its logins are not looked at (429), unless it logged in lately."""
HELD_IN_ALL: Final = 200
"""Answers held back for all peers: more would cost the connections that Label Studio needs."""
_PEERS: Final = 10_000
_LOG_SECONDS: Final = 60.0


@dataclass(slots=True)
class Peer:
    """What one address did lately."""

    failures: int = 0
    last: float = float("-inf")
    succeeded: float = float("-inf")
    held: int = 0
    unlogged: int = 0
    logged: float = float("-inf")

    def forget(self, now: float) -> None:
        """Begin anew after ten quiet minutes."""
        if now - self.last > FORGET_SECONDS:
            self.failures = 0

    @property
    def delay(self) -> float:
        """Seconds by which the next wrong answer is held back."""
        beyond = self.failures - FREE
        return 0.0 if beyond <= 0 else min(FIRST_SECONDS * 2.0 ** min(beyond - 1, 10), MOST_SECONDS)


@dataclass(slots=True)
class Attempts:
    """Peers by address, the least recently failing forgotten first. Times are of a monotonic clock, in seconds."""

    peers: OrderedDict[str, Peer] = field(default_factory=OrderedDict)
    held: int = 0

    def is_blocked(self, address: str, now: float) -> bool:
        """Whether a login of this peer is not even looked at: too many of its wrong answers wait already."""
        peer = self.peers.get(_key(address))
        return peer is not None and peer.held >= HELD and now - peer.succeeded > FORGET_SECONDS

    def succeed(self, address: str, now: float) -> None:
        """A right login: many people and servers may share the address, so others' failures do not close it."""
        if peer := self.peers.get(_key(address)):
            peer.succeeded = now
        else:
            self._peer(address).succeeded = now

    def fail(self, address: str, now: float) -> float:
        """A wrong login; the seconds by which its answer is to be held back, -1 where it is to be refused at once."""
        peer = self._peer(address)
        peer.forget(now)
        peer.failures, peer.last, peer.unlogged = peer.failures + 1, now, peer.unlogged + 1
        if now - peer.logged >= _LOG_SECONDS:
            log.warning("login_failed", peer=_key(address), failures=peer.unlogged)
            peer.unlogged, peer.logged = 0, now
        is_full = peer.held >= HELD or self.held >= HELD_IN_ALL
        return -1.0 if peer.delay and is_full else peer.delay

    def hold(self, address: str, by: int) -> None:
        """One answer more (1) or less (-1) is held back."""
        self.held += by
        self._peer(address).held += by

    def _peer(self, address: str) -> Peer:
        key = _key(address)
        peer = self.peers.setdefault(key, Peer())
        self.peers.move_to_end(key)
        if len(self.peers) > _PEERS:
            quiet = next((one for one, other in self.peers.items() if not other.held and one != key), None)
            if quiet is not None:
                del self.peers[quiet]
        return peer


def _key(address: str) -> str:
    """An IPv6 address by its /64, which is one customer's."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:100]
    if found.version == 6 and found.ipv4_mapped is None:
        return str(ipaddress.ip_network(f"{found}/64", strict=False))
    return str(found.ipv4_mapped or found) if found.version == 6 else str(found)
