"""Record Kubernetes Events about predictors and runs' Jobs: best effort, from a thread, never blocking."""

from __future__ import annotations

import queue
import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import structlog

from services.cluster.client import KINDS, ClusterError, Document, Kube
from services.core.telemetry.logs import safe_traceback

log = structlog.get_logger()
_QUEUE_SIZE: Final = 100
_REPEAT_SECONDS: Final = 300.0
_MAX_REMEMBERED: Final = 1000
_KIND_NAMES: Final = {"inferenceservice": "InferenceService", "deployment": "Deployment", "job": "Job"}


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to an object, `<kind>/<name>`."""

    reason: str
    note: str
    about: str
    warning: bool


@dataclass
class EventRecorder:
    """Records Events about `workload` (`inferenceservice/<name>` or `deployment/<name>`) or about a Job."""

    kube: Kube
    workload: str
    reporter: str
    _queue: queue.Queue[Event] = field(default_factory=lambda: queue.Queue(_QUEUE_SIZE))
    _recorded: dict[Event, float] = field(default_factory=dict)
    _uids: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """Start sending in a thread."""
        threading.Thread(target=self._loop, name="events", daemon=True).start()

    def record(self, reason: str, note: str, *, warning: bool = False, job: str = "") -> None:
        """Record an Event; a repetition within five minutes is dropped. Never blocks, never raises."""
        event = Event(reason, note, f"job/{job}" if job else self.workload, warning)
        now = time.monotonic()
        if now - self._recorded.get(event, -_REPEAT_SECONDS) < _REPEAT_SECONDS:
            return
        if len(self._recorded) >= _MAX_REMEMBERED:
            self._recorded.clear()
        self._recorded[event] = now
        try:
            self._queue.put_nowait(event)
        except queue.Full:
            log.warning("kubernetes_event_dropped", event_reason=reason)

    def _loop(self) -> None:
        while True:
            self._send(self._queue.get())

    def _send(self, event: Event) -> None:
        try:
            self.kube.create("event", self._document(event))
        except ClusterError as error:
            log.warning("kubernetes_event_rejected", event_reason=event.reason, reason=str(error))
        except Exception as error:  # noqa: BLE001  # the sending thread must survive any bug
            log.error("kubernetes_event_error", event_reason=event.reason, frames=safe_traceback(error))

    def _document(self, event: Event) -> Document:
        kind, _, name = event.about.partition("/")
        group, version, _ = KINDS[kind]
        about = {
            "apiVersion": f"{group}/{version}",
            "kind": _KIND_NAMES[kind],
            "name": name,
            "namespace": self.kube.namespace,
        }
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{secrets.token_hex(8)}", "namespace": self.kube.namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": "fitloop.io/adapter",
            "reportingInstance": self.reporter[:128],
            "action": event.reason,
            "reason": event.reason,
            "note": event.note[:1024],
            "type": "Warning" if event.warning else "Normal",
            "regarding": about | self._uid(event.about, kind, name),
        }

    def _uid(self, about: str, kind: str, name: str) -> dict[str, str]:
        """Return the object's uid, by which `kubectl describe` finds the Event; nothing if the object was deleted."""
        uid = self._uids.get(about)
        if uid is None:
            found = self.kube.get(kind, name)
            if found is None:
                return {}
            uid = str(found["metadata"]["uid"])
            if kind != "job":  # Jobs are short-lived
                self._uids[about] = uid
        return {"uid": uid}
