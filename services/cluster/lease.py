"""The Leadership port over a Kubernetes Lease: valid for 15 s, renewed every 2 s, resigned after 10 s without a renewal.

Clocks of different machines are never compared: the holder counts from before its last renewal was sent, the other
candidates from when they saw it change. Losing the lease or the API demotes this process and never ends it. A candidate that
resigns lets the lease expire instead of releasing it: a write that was started with enough of the lease left ends before another leads.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final

import structlog

from services.cluster.client import ClusterError, Document, Kube
from services.core.telemetry.logs import safe_traceback

log = structlog.get_logger()
LEASE_SECONDS: Final = 15.0
RENEW_DEADLINE: Final = 10.0
"""Without a renewal for this long, the holder resigns: five seconds before another candidate may lead."""
RETRY_SECONDS: Final = 2.0
_STALLED_SECONDS: Final = 30.0
"""For how long a process that does no work does not stand again."""
_TIMEOUT_SECONDS: Final = (2.0, 3.0)
"""Connect and read timeout: after a call that hangs there is time for another one before the deadline."""
_NEVER: Final = float("-inf")


def boot_time() -> float:
    """Return seconds of a clock that advances while this process is stopped or its machine sleeps."""
    boot: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@dataclass
class LeaseLeadership:
    """One candidate for the lease."""

    kube: Kube
    name: str
    pod: str
    clock: Callable[[], float] = boot_time
    is_working: Callable[[], bool] = lambda: True
    """Asked before each renewal."""
    _renewed_at: float = _NEVER
    """When the last successful renewal was sent."""
    _other_holder: tuple[str, str] = ("", "")
    """Another holder, and its renewTime as it wrote it."""
    _other_seen_at: float = _NEVER
    """When `_other_holder` was first seen."""
    _stopped: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None
    _was_leading: bool = False
    _resigned_until: float = _NEVER
    _error: str = ""

    def __post_init__(self) -> None:
        """Choose an identity for this process alone: a pod of the same name may come back."""
        self.identity = f"{self.pod}_{secrets.token_hex(4)}"
        self.kube = replace(self.kube, timeout=_TIMEOUT_SECONDS, tries=1)
        self._on_change: Callable[[], None] = lambda: None

    def start(self, on_change: Callable[[], None], is_working: Callable[[], bool] = lambda: True) -> None:
        """Start competing for the lease in a thread, which asks `is_working` before each renewal."""
        self._on_change, self.is_working = on_change, is_working
        self._thread = threading.Thread(target=self._loop, name="lease", daemon=True)
        self._thread.start()

    def leads(self, seconds: float = 0.0) -> bool:
        """Return whether this process leads now and no other can for so many more seconds. Never blocks."""
        now = self.clock()
        age = now - self._renewed_at
        return now >= self._resigned_until and age < RENEW_DEADLINE and age + seconds < LEASE_SECONDS

    def resign(self, seconds: float) -> None:
        """Stop leading at once, let the lease expire, and do not compete for it for so many seconds."""
        self._resigned_until = self.clock() + seconds

    def stop(self) -> None:
        """Resign and release the lease."""
        self._stopped.set()
        if self._thread:
            self._thread.join(RENEW_DEADLINE)
        renewed_at, self._renewed_at = self._renewed_at, _NEVER
        if renewed_at == _NEVER:
            return
        try:
            self._release()
        except ClusterError as error:
            log.warning("lease_release_failed", reason=str(error))

    def acquire_or_renew(self) -> None:
        """Acquire or renew the lease if that is allowed, unless this process has resigned. Raises ClusterError."""
        if not self.is_working():
            self._resign_stalled()
        sent = self.clock()
        if sent < self._resigned_until:
            self._renewed_at = _NEVER
            return
        found = self.kube.get("lease", self.name)
        if found is None:
            self._create()
        elif self._can_acquire(found):
            self.kube.replace("lease", self.name, self._renewed_lease(found))
        else:
            self._renewed_at = _NEVER
            return
        self._renewed_at = sent

    def _resign_stalled(self) -> None:
        if self.leads():
            log.error("leader_stalled", reason="its thread makes no progress", retry_seconds=_STALLED_SECONDS)
        self.resign(_STALLED_SECONDS)

    def _create(self) -> None:
        """Create the Lease; the chart creates it and grants no right to create one."""
        try:
            self.kube.create("lease", self._new_lease())
        except ClusterError as error:
            if error.status != 403:
                raise
            raise ClusterError(
                f"Lease {self.name} is missing, so no adapter can lead: run `helm upgrade` with the same values to create it."
            ) from error

    def _release(self) -> None:
        found = self.kube.get("lease", self.name)
        if found and (found.get("spec") or {}).get("holderIdentity") == self.identity:
            spec = {**found["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
            self.kube.replace("lease", self.name, {**found, "spec": spec})

    def _loop(self) -> None:
        while not self._stopped.is_set():
            self._try_acquire_or_renew()
            if self.leads() != self._was_leading:
                self._was_leading = not self._was_leading
                log.info("leadership_changed", leads=self._was_leading, identity=self.identity)
                self._on_change()
            self._stopped.wait(RETRY_SECONDS)

    def _try_acquire_or_renew(self) -> None:
        reason, frames = "", dict[str, list[str]]()
        try:
            self.acquire_or_renew()
        except ClusterError as error:
            if error.status != 409:  # another candidate was faster
                reason = str(error)
        except Exception as error:  # noqa: BLE001  # the electing thread must survive any bug
            reason = f"unexpected error: {type(error).__name__}"
            frames = {"frames": safe_traceback(error)}
        if reason and not self._error:
            log.warning("lease_renewal_failed", reason=reason, **frames)
        elif self._error and not reason:
            log.info("lease_renewal_recovered")
        self._error = reason

    def _can_acquire(self, found: Document) -> bool:
        spec = found.get("spec") or {}
        other = str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or "")
        if other[0] in {"", self.identity}:
            return True
        if self._other_holder != other:
            self._other_holder, self._other_seen_at = other, self.clock()
        return self.clock() - self._other_seen_at > float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    def _renewed_lease(self, found: Document) -> Document:
        spec = dict(found.get("spec") or {})
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        if spec.get("holderIdentity") != self.identity:
            spec |= {"acquireTime": now, "leaseTransitions": int(spec.get("leaseTransitions") or 0) + 1}
        spec |= {
            "holderIdentity": self.identity,
            "renewTime": now,
            "leaseDurationSeconds": int(LEASE_SECONDS),
        }
        return {**found, "spec": spec}

    def _new_lease(self) -> Document:
        meta = {"name": self.name, "namespace": self.kube.namespace}
        return self._renewed_lease(
            {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": meta}
        )
