"""Retries: how long to wait until the next one, and which problem is news worth logging."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Seconds until the next try, doubling with each failure in a row."""

    first: float = 1.0
    longest: float = 60.0
    until: float = 0.0
    """When the next try is due, after `failed`."""
    _delay: float = 0.0

    def next(self) -> float:
        """Return the seconds to wait after one more failure."""
        self._delay = min(self._delay * 2 or self.first, self.longest)
        return self._delay

    def failed(self, now: float, took: float = 0.0) -> float:
        """Schedule the next try and return the seconds until then.

        A try that began at `now` and `took` long is followed by a pause of at least that length, because others waited for it.
        """
        delay = max(self.next(), took)
        self.until = now + took + delay
        return delay

    def succeeded(self) -> None:
        """Start over after a try that worked."""
        self.until = self._delay = 0.0


@dataclass(slots=True)
class LogOnce:
    """Remembers the problem that was logged last, so that it is logged once and not at each retry."""

    problem: str = ""
    """"" while there is none."""

    def is_new(self, problem: str) -> bool:
        """Remember the problem; return whether it differs from the last one."""
        known, self.problem = self.problem, problem
        return problem != known

    def resolved(self) -> bool:
        """Forget the problem; return whether there was one."""
        known, self.problem = self.problem, ""
        return bool(known)
