"""When Label Studio is polled for one project: after events, at intervals that grow while nothing changes, not while it is away."""

from __future__ import annotations

from dataclasses import dataclass

from services.adapter.training import trigger
from services.core.settings import TriggerSettings


@dataclass(slots=True)
class PollSchedule:
    """The schedule of one project's polls. Times are seconds since the epoch."""

    settings: TriggerSettings
    burst: trigger.Burst | None = None
    """Events since the last poll."""
    _next_at: float = 0.0
    _interval: float = 0.0
    """Seconds between the last poll and the next; 0: labels are expected to change."""
    _blocked_until: float = 0.0
    """No poll before then, because Label Studio does not answer."""

    @property
    def policy(self) -> trigger.Policy:
        given = self.settings
        return trigger.Policy(given.every_n_updates, given.debounce_seconds, given.min_seconds_between_runs)

    def event_received(self, at: float) -> None:
        """Poll after a pause between events."""
        self.burst = trigger.Burst(self.burst.first if self.burst else at, at)
        self._interval = 0.0

    def poll_soon(self) -> None:
        """Poll in the next step."""
        self._next_at = self._interval = 0.0

    def postpone(self, until: float) -> None:
        """Poll at `until` at the earliest, because Label Studio does not answer."""
        self._blocked_until = until

    def began(self, now: float) -> None:
        """Note that a poll begins: events from now on are a new burst."""
        if self.burst and now >= trigger.quiet_at(self.burst, self.policy):
            self.burst = None

    def failed(self, retry_at: float) -> None:
        """Note that the poll failed."""
        self.burst, self._next_at = None, retry_at

    def succeeded(self, now: float, *, is_unchanged: bool) -> None:
        """Note that labels were read: poll again after the setting's interval, or after twice the last one if nothing changed."""
        base = self.settings.reconcile_seconds
        most = max(base, self.settings.reconcile_max_seconds)
        self._interval = min(2 * self._interval, most) if is_unchanged and self._interval else base
        self._next_at = now + self._interval

    def is_blocked(self, now: float) -> bool:
        """Return whether Label Studio does not answer."""
        return now < self._blocked_until

    def due_at(self, run_at: float | None = None) -> float:
        """Return when the next poll is due. `run_at`: when a run that waited for others may start, which takes a fresh poll."""
        if run_at is not None:
            return max(run_at, self._blocked_until)
        quiet_at = trigger.quiet_at(self.burst, self.policy) if self.burst else self._next_at
        return max(self._blocked_until, min(self._next_at, quiet_at))
