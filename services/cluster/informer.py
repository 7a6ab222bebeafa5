"""A local copy of one kind's objects, kept up to date by a watch in a thread.

The informer lists all objects once a minute and follows a watch in between. A disconnected watch resumes where it was; 410
lists again at once. While the API is unreachable, the copy stays as it was and `error` says why.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.cluster.client import WATCH_SECONDS, ClusterError, Document, Kube
from services.core.errors import StoreError
from services.core.retry import Backoff
from services.core.telemetry.logs import safe_traceback

log = structlog.get_logger()
_MIN_PAUSE: Final = 0.5
_MAX_PAUSE: Final = 10.0
NOT_LISTED_YET: Final = "the Kubernetes API has not been read yet"


@dataclass
class Informer:
    """The objects of one kind that match a label selector, by name. Objects are replaced, never mutated."""

    kube: Kube
    kind: str
    selector: str
    on_change: Callable[[], None]
    """Called from the informer's thread after an object was added, changed or deleted."""
    on_list: Callable[[], None] = lambda: None
    """Called from the informer's thread after each list."""
    clock: Callable[[], float] = time.monotonic
    listed: threading.Event = field(default_factory=threading.Event)
    """Set after the first list: an object that is not here then did not exist a moment ago."""
    error: str = NOT_LISTED_YET
    """Why the copy may be out of date; "" while it is not."""
    _objects: dict[str, Document] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _version: str = ""
    _listed_at: float = float("-inf")

    def start(self) -> None:
        """Start watching in a thread."""
        threading.Thread(target=self._loop, name=f"{self.kind}s", daemon=True).start()

    def close(self) -> None:
        """Stop watching."""
        self._stopped.set()

    def get(self, name: str) -> Document | None:
        """Return the object of that name as last seen."""
        with self._lock:
            return self._objects.get(name)

    def all(self) -> list[Document]:
        with self._lock:
            return list(self._objects.values())

    def put(self, found: Document) -> None:
        """Add an object that was just created or read, before the watch reports it."""
        with self._lock:
            self._objects[found["metadata"]["name"]] = found

    def _loop(self) -> None:
        backoff = Backoff(_MIN_PAUSE, _MAX_PAUSE)
        while not self._stopped.is_set():
            try:
                self._list_and_watch()
                backoff.succeeded()
            except ClusterError as error:
                self._record_failure(error)
                self._stopped.wait(backoff.next())
            except Exception as error:  # noqa: BLE001  # the watching thread must survive any bug
                log.error("watch_error", kind=self.kind, frames=safe_traceback(error))
                self._version = ""
                self._stopped.wait(_MAX_PAUSE)

    def _list_and_watch(self) -> None:
        """List if due, then follow the watch until it ends. Raises ClusterError."""
        if not self._version or self.clock() - self._listed_at >= WATCH_SECONDS:
            self._list()
        for event in self.kube.watch(self.kind, self.selector, self._version):
            if self._stopped.is_set():
                return
            self._apply(event)
        self._record_success()

    def _list(self) -> None:
        started = self.clock()
        found, version = self.kube.items(self.kind, self.selector)
        fresh = {one["metadata"]["name"]: _without_managed_fields(one) for one in found}
        with self._lock:
            changed = fresh != self._objects
            self._objects = fresh
        self._version, self._listed_at = version, started
        first = not self.listed.is_set()
        self.listed.set()
        self._record_success()
        if changed or first:
            self.on_change()
        try:
            self.on_list()
        except StoreError as error:
            log.warning("list_callback_failed", kind=self.kind, reason=str(error))

    def _apply(self, event: Document) -> None:
        self._record_success()
        found = event["object"]
        self._version = str(found["metadata"]["resourceVersion"])
        if event["type"] == "BOOKMARK":
            return
        name = found["metadata"]["name"]
        with self._lock:
            if event["type"] == "DELETED":
                self._objects.pop(name, None)
            else:
                self._objects[name] = _without_managed_fields(found)
        self.on_change()

    def _record_failure(self, error: ClusterError) -> None:
        if 400 <= error.status < 429:
            self._version = ""  # resuming from it would be refused again
        if error.status == 410:
            return
        if not self.error or self.error == NOT_LISTED_YET:
            log.warning("watch_failed", kind=self.kind, reason=str(error))
        self.error = str(error)

    def _record_success(self) -> None:
        if self.error:
            log.info("watch_established", kind=self.kind, number=len(self._objects))
        self.error = ""


def _without_managed_fields(found: Document) -> Document:
    found["metadata"].pop("managedFields", None)
    return found
