"""What the API last told of a kind's objects, kept by a watch in a thread.

All are listed once a minute, and a watch that was cut off in between goes on where it was; 410 lists anew at once. While the
API is away, what was known stays, and `trouble` says so.
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

log = structlog.get_logger()
_MIN_PAUSE: Final = 0.5
_MAX_PAUSE: Final = 10.0
NOT_LISTED_YET: Final = "the Kubernetes API has not been asked yet"


@dataclass
class Informer:
    """One kind's objects that the labels choose, by name. Objects are never changed here, only taken in another's place."""

    kube: Kube
    kind: str
    selector: str
    on_change: Callable[[], None]
    """Called from the mirror's thread after anything came, went or changed."""
    on_list: Callable[[], None] = lambda: None
    """Called from the mirror's thread after all were listed."""
    clock: Callable[[], float] = time.monotonic
    listed: threading.Event = field(default_factory=threading.Event)
    """Set once all have been listed: what is not here then did not exist a moment ago."""
    error: str = NOT_LISTED_YET
    """Why what is known may be old; "" while it is not."""
    _objects: dict[str, Document] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _over: threading.Event = field(default_factory=threading.Event)
    _version: str = ""
    _listed_at: float = float("-inf")

    def start(self) -> None:
        """Begin in a thread; returns at once."""
        threading.Thread(target=self._loop, name=f"{self.kind}s", daemon=True).start()

    def close(self) -> None:
        """Nothing more is taken in."""
        self._over.set()

    def get(self, name: str) -> Document | None:
        """The object of that name, as it was last seen."""
        with self._lock:
            return self._objects.get(name)

    def all(self) -> list[Document]:
        """All objects."""
        with self._lock:
            return list(self._objects.values())

    def put(self, found: Document) -> None:
        """What was just made or read, before the watch tells of it."""
        with self._lock:
            self._objects[found["metadata"]["name"]] = found

    def _loop(self) -> None:
        pause = _MIN_PAUSE
        while not self._over.is_set():
            try:
                self._step()
                pause = _MIN_PAUSE
            except ClusterError as error:
                self._failed(error)
                self._over.wait(pause)
                pause = min(_MAX_PAUSE, 2 * pause)
            except Exception as error:  # noqa: BLE001  # the thread that watches must outlive any slip
                log.error("watching failed unexpectedly", kind=self.kind, slip=type(error).__name__)
                self._version = ""
                self._over.wait(_MAX_PAUSE)

    def _step(self) -> None:
        """List where that is due, then follow until the watch ends. Raises ClusterError."""
        if not self._version or self.clock() - self._listed_at >= WATCH_SECONDS:
            self._list()
        for event in self.kube.watch(self.kind, self.selector, self._version):
            if self._over.is_set():
                return
            self._take(event)
        self._worked()

    def _list(self) -> None:
        asked = self.clock()
        found, version = self.kube.items(self.kind, self.selector)
        fresh = {one["metadata"]["name"]: _slim(one) for one in found}
        with self._lock:
            changed = fresh != self._objects
            self._objects = fresh
        self._version, self._listed_at = version, asked
        first = not self.listed.is_set()
        self.listed.set()
        self._worked()
        if changed or first:
            self.on_change()
        try:
            self.on_list()
        except StoreError as error:
            log.warning("what was listed could not be dealt with", kind=self.kind, reason=str(error))

    def _take(self, event: Document) -> None:
        self._worked()
        found = event["object"]
        self._version = str(found["metadata"]["resourceVersion"])
        if event["type"] == "BOOKMARK":
            return
        name = found["metadata"]["name"]
        with self._lock:
            if event["type"] == "DELETED":
                self._objects.pop(name, None)
            else:
                self._objects[name] = _slim(found)
        self.on_change()

    def _failed(self, error: ClusterError) -> None:
        if 400 <= error.status < 429:
            self._version = ""  # to go on from there would be refused again
        if error.status == 410:
            return
        if not self.error or self.error == NOT_LISTED_YET:
            log.warning("the API cannot be watched", kind=self.kind, reason=str(error))
        self.error = str(error)

    def _worked(self) -> None:
        if self.error:
            log.info("the API is watched", kind=self.kind, number=len(self._objects))
        self.error = ""


def _slim(found: Document) -> Document:
    found["metadata"].pop("managedFields", None)
    return found
