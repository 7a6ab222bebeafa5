"""The Leadership port over a Lease: 15 s long, renewed every 2 s, given up by whoever cannot renew it for 10 s.

Nobody compares the clocks of machines: a holder counts from before its last renewal was sent, and the others count from
when they saw it change. Losing the lease, or the API, demotes this process and never ends it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from services.cluster.client import ClusterError, Document, Kube

log = structlog.get_logger()
DURATION: Final = 15.0
DEADLINE: Final = 10.0
"""Without a renewal for so long, the holder no longer leads: five seconds before another one may."""
RETRY: Final = 2.0


@dataclass
class Lease:
    """One candidate."""

    kube: Kube
    name: str
    pod: str
    clock: Callable[[], float] = time.monotonic
    _renewed: float = float("-inf")
    """When our last successful renewal was sent."""
    _seen: tuple[str, str, float] = ("", "", 0.0)
    """Another holder, its last renewal as it wrote it, and when we first saw that."""
    _over: threading.Event = field(default_factory=threading.Event)
    _led: bool = False

    def __post_init__(self) -> None:
        """An identity of this process alone: a pod of the same name may come back."""
        self.identity = f"{self.pod}_{secrets.token_hex(4)}"

    def start(self, on_change: Callable[[], None]) -> None:
        """Try, and go on trying, in a thread."""
        self._on_change = on_change
        self._thread = threading.Thread(target=self._loop, name="lease", daemon=True)
        self._thread.start()

    def leads(self, seconds: float = 0.0) -> bool:
        """Whether we lead now, and nobody else will for so many seconds more."""
        age = self.clock() - self._renewed
        return age < DEADLINE and age + seconds < DURATION

    def stop(self) -> None:
        """Give it back."""
        self._over.set()
        self._thread.join(DEADLINE)
        if not self.leads():
            return
        self._renewed = float("-inf")
        try:
            found = self.kube.get("lease", self.name)
            if found and (found.get("spec") or {}).get("holderIdentity") == self.identity:
                found["spec"] |= {"holderIdentity": "", "leaseDurationSeconds": 1}
                self.kube.replace("lease", self.name, found)
        except ClusterError as error:
            log.warning("the lease was not given back", reason=str(error))

    def turn(self) -> None:
        """Take or renew the lease, where that may be. Raises ClusterError."""
        sent = self.clock()
        found = self.kube.get("lease", self.name)
        if found is None:
            self.kube.create("lease", self._fresh())
        elif self._may_have(found):
            self.kube.replace("lease", self.name, self._ours(found))
        else:
            self._renewed = float("-inf")
            return
        self._renewed = sent

    def _loop(self) -> None:
        while not self._over.is_set():
            try:
                self.turn()
            except ClusterError as error:
                if error.status != 409:  # another one was quicker
                    log.warning("the lease cannot be renewed", reason=str(error))
            except Exception as error:  # noqa: BLE001  # the thread that leads must outlive any slip
                log.error(
                    "renewing the lease failed unexpectedly", kind=type(error).__name__, reason=str(error)
                )
            self._tell()
            self._over.wait(RETRY)

    def _tell(self) -> None:
        if self.leads() != self._led:
            self._led = not self._led
            log.info("leadership", leads=self._led, identity=self.identity)
            self._on_change()

    def _may_have(self, found: Document) -> bool:
        spec = found.get("spec") or {}
        holder, renewed = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
        if holder in {"", self.identity}:
            return True
        if self._seen[:2] != (holder, renewed):
            self._seen = (holder, renewed, self.clock())
        lasts = float(spec.get("leaseDurationSeconds") or DURATION)
        return self.clock() - self._seen[2] > lasts

    def _ours(self, found: Document) -> Document:
        spec = dict(found.get("spec") or {})
        now = _stamp()
        if spec.get("holderIdentity") != self.identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        spec |= {"holderIdentity": self.identity, "renewTime": now, "leaseDurationSeconds": int(DURATION)}
        return {**found, "spec": spec}

    def _fresh(self) -> Document:
        meta = {"name": self.name, "namespace": self.kube.namespace}
        return self._ours({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta})


def _stamp() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
