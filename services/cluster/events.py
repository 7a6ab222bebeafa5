"""Kubernetes Events about the predictors: best effort, from a thread, never waited for."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from services.cluster.client import ClusterError, Document, Kube

log = structlog.get_logger()
_WAITING: Final = 100
_AGAIN_SECONDS: Final = 300.0
_API: Final = {
    "inferenceservice": ("serving.kserve.io/v1beta1", "InferenceService"),
    "deployment": ("apps/v1", "Deployment"),
}


@dataclass
class Events:
    """Tells of one object, `inferenceservice/<name>` or `deployment/<name>`."""

    kube: Kube
    workload: str
    reporter: str
    _queue: queue.Queue[tuple[str, str, str]] = field(default_factory=lambda: queue.Queue(_WAITING))
    _said: dict[tuple[str, str], float] = field(default_factory=dict)

    def start(self) -> None:
        """Send in a thread; returns at once."""
        threading.Thread(target=self._loop, name="events", daemon=True).start()

    def tell(self, reason: str, note: str, *, warning: bool = False) -> None:
        """Something happened; the same again within five minutes is not said. Never blocks, never raises."""
        now = time.monotonic()
        if now - self._said.get((reason, note), -_AGAIN_SECONDS) < _AGAIN_SECONDS:
            return
        if len(self._said) > 1000:
            self._said.clear()
        self._said[reason, note] = now
        try:
            self._queue.put_nowait((reason, note, "Warning" if warning else "Normal"))
        except queue.Full:
            log.warning("an event was dropped", reason=reason)

    def _loop(self) -> None:
        while True:
            said = self._queue.get()
            try:
                self.kube.create("event", self._event(*said))
            except ClusterError as error:
                log.warning("an event was not taken", reason=str(error))

    def _event(self, reason: str, note: str, kind: str) -> Document:
        workload, _, name = self.workload.partition("/")
        version, known_as = _API[workload]
        about = {"apiVersion": version, "kind": known_as, "name": name, "namespace": self.kube.namespace}
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": self.kube.namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": "fitloop.io/adapter",
            "reportingInstance": self.reporter[:128],
            "action": reason,
            "reason": reason,
            "note": note[:1024],
            "type": kind,
            "regarding": about,
        }
