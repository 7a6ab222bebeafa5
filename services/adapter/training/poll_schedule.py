"""When Label Studio is polled for one project: after events, at intervals that grow while nothing changes, not while it is away.

The first event of a quiet project is polled at once, those that follow together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from services.adapter.training import trigger
from services.core.settings import TriggerSettings

_NEVER: Final = float("inf")
_LOOKS: Final = (0.25, 1.0)
"""Seconds until labels are read again if an event's change was not there: its transaction may not have been committed."""


@dataclass(slots=True)
class PollSchedule:
    """The schedule of one project's polls. Times are seconds since the epoch."""

    settings: TriggerSettings
    _event_at: float = _NEVER
    """The first event since the last poll began."""
    _burst: trigger.Burst | None = None
    """The last events."""
    _began: float = -_NEVER
    """When the last poll began that events caused."""
    _took: float = 0.0
    """Seconds that it took."""
    _is_for_events: bool = False
    """Whether events caused the last poll."""
    _looks: int = 0
    """Polls since the last event that have not found its change."""
    _look_at: float = _NEVER
    """When to look for it again."""
    _next_at: float = 0.0
    _interval: float = 0.0
    """Seconds between the last poll and the next; 0: labels are expected to change."""
    _blocked_until: float = 0.0
    """No poll before then, because Label Studio does not answer."""

    @property
    def policy(self) -> trigger.Policy:
        return trigger.Policy(self.settings.every_n_updates, self.settings.min_seconds_between_runs)

    @property
    def quiet_at(self) -> float:
        """When the last burst of events is over; infinitely long ago without one."""
        return trigger.quiet_at(self._burst, self.settings.debounce_seconds) if self._burst else -_NEVER

    def event_received(self, at: float) -> None:
        """Poll at once, or a while after the poll that earlier events have caused."""
        is_same = self._burst is not None and at < self.quiet_at
        self._burst = trigger.Burst(self._burst.first if self._burst and is_same else at, at)
        self._event_at = min(self._event_at, at)
        self._interval, self._looks = 0.0, 0

    def poll_soon(self) -> None:
        """Poll in the next step."""
        self._next_at = self._interval = 0.0

    def postpone(self, until: float) -> None:
        """Poll at `until` at the earliest, because Label Studio does not answer."""
        self._blocked_until = until

    def began(self, now: float) -> None:
        """Note that a poll begins: it answers the events so far."""
        self._is_for_events = min(self._event_at, self._look_at) <= now
        if self._is_for_events:
            self._began = now
        self._event_at = self._look_at = _NEVER

    def failed(self, retry_at: float) -> None:
        """Note that the poll failed."""
        self._event_at, self._next_at = _NEVER, retry_at

    def succeeded(self, now: float, *, is_unchanged: bool) -> None:
        """Note that labels were read: poll again after the setting's interval, or after twice the last one if nothing changed."""
        base = self.settings.reconcile_seconds
        most = max(base, self.settings.reconcile_max_seconds)
        self._interval = min(2 * self._interval, most) if is_unchanged and self._interval else base
        self._next_at = now + self._interval
        if self._is_for_events:
            self._took = now - self._began
            if is_unchanged and self._looks < len(_LOOKS):
                self._look_at = now + _LOOKS[self._looks]
                self._looks += 1

    def is_blocked(self, now: float) -> bool:
        """Return whether Label Studio does not answer."""
        return now < self._blocked_until

    def due_at(self, run_at: float | None = None) -> float:
        """Return when the next poll is due. `run_at`: when a run that waited for others may start, which takes a fresh poll."""
        if run_at is not None:
            return max(run_at, self._blocked_until)
        debounce = self.settings.debounce_seconds
        event_at = trigger.event_poll_at(self._event_at, self._began, self._took, debounce)
        return max(self._blocked_until, min(self._next_at, self._look_at, event_at))
