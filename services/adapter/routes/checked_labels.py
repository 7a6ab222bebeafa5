"""Reports without the suspect labels that people have checked since, by the label index in the bucket.

Blocking: call in a thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from services.core.checked_labels import without_checked
from services.core.domain import LabelSegment, Report, SuspectLabels
from services.core.errors import StoreError
from services.core.labels.segments import LabelStore
from services.core.store import ObjectStore

_MAX_KEPT: Final = 64
"""Versions whose lists are kept, each with the labels that it was made for."""
_REST: Final = 20.0
"""Times as long as reading the index took until it is read again: 60 ms for 50,000 tasks, and a page with an active run asks every 2 s."""


@dataclass(frozen=True, slots=True)
class _Seen:
    segments: tuple[LabelSegment, ...]
    """Those of the index then: equal while no label changes."""
    suspects: SuspectLabels
    rests_until: float


@dataclass(slots=True)
class CheckedLabels:
    """Reads the index only when labels have changed since a version's list was last asked for. Thread-safe."""

    store: ObjectStore
    clock: Callable[[], float] = time.monotonic
    _known: dict[tuple[str, str], _Seen] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def leave_out(self, project_key: str, version: str, report: Report) -> Report:
        """Return the report without labels that were checked; as it is if the labels cannot be read."""
        found = report.suspects
        if found is None or not any(row.changed_at for row in found.rows):
            return report
        try:
            return replace(report, suspects=self._open(project_key, version, found))
        except StoreError:  # the leader says so, and reads them again
            return report

    def _open(self, project_key: str, version: str, found: SuspectLabels) -> SuspectLabels:
        key, began = (project_key, version), self.clock()
        with self._lock:
            seen = self._known.get(key)
        if seen and began < seen.rests_until:
            return seen.suspects
        labels = LabelStore(self.store, project_key)
        head = labels.head()
        if head is None:
            return found
        if seen is None or seen.segments != head.segments:
            suspects, now = without_checked(found, labels.load(head)), self.clock()
            seen = _Seen(head.segments, suspects, now + _REST * (now - began))
            self._keep(key, seen)
        return seen.suspects

    def _keep(self, key: tuple[str, str], seen: _Seen) -> None:
        with self._lock:
            self._known.pop(key, None)
            self._known[key] = seen
            if len(self._known) > _MAX_KEPT:
                del self._known[next(iter(self._known))]
