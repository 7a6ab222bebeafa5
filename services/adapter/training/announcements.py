"""Whether Label Studio announces what changes: labels that no event has told of are the mark of a lost webhook. Pure.

An event may come a little before the look that finds its label, or a little after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

GRACE_SECONDS: Final = 30.0


@dataclass(slots=True)
class WebhookMonitor:
    """Of one project."""

    last_event_at: float | None = None
    """When Label Studio last sent an event of any kind; None where that is not known."""
    _read_at: float | None = None
    _suspected_at: float | None = None

    def event_received(self, at: float) -> None:
        """An event."""
        self.last_event_at = max(at, self.last_event_at or at)
        self._suspected_at = None

    def restore(self, at: float | None) -> None:
        """When an earlier leader last heard of one."""
        self.last_event_at = self.last_event_at or at

    def labels_read(self, now: float, *, changed: bool) -> None:
        """A look at Label Studio, and whether it found other labels than the one before. The first finds nothing."""
        since, self._read_at = self._read_at, now
        if since is None or not changed or self._suspected_at is not None:
            return
        if self.last_event_at is None or self.last_event_at < since - GRACE_SECONDS:
            self._suspected_at = now

    def is_silent(self, now: float) -> bool:
        """Whether a change stayed unannounced; said once of each."""
        if self._suspected_at is None or now < self._suspected_at + GRACE_SECONDS:
            return False
        self._suspected_at = None
        return True
