"""Retries: how long to wait until the next one, whether to ask a service that does not answer, and which problem is news."""

from __future__ import annotations

from dataclasses import dataclass, field


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
class CircuitBreaker:
    """Limits requests to a service that does not answer: one at a time tries whether it does again, with back-off in between.

    Closed until `threshold` requests in a row have failed. Every allowed request must be reported by `succeeded`, `failed` or `cancelled`.
    """

    threshold: int = 2
    backoff: Backoff = field(default_factory=Backoff)
    _failures: int = 0
    _is_probing: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the service does not answer, as far as known."""
        return self._failures >= self.threshold

    def allow(self, now: float) -> bool:
        """Return whether a request may be made now; while the breaker is open, True once per pause."""
        if not self.is_open:
            return True
        if self._is_probing or now < self.backoff.until:
            return False
        self._is_probing = True
        return True

    def succeeded(self) -> None:
        """Close: the service has answered, even if with an error of its own."""
        self._failures, self._is_probing = 0, False
        self.backoff.succeeded()

    def failed(self, now: float) -> None:
        """Note a request without an answer. Of those that were in flight when the breaker opened, only the last delays the next."""
        self._failures += 1
        if self._is_probing or self._failures == self.threshold:
            self.backoff.failed(now)
        self._is_probing = False

    def cancelled(self) -> None:
        """Note that an allowed request was not made: another one may be."""
        self._is_probing = False


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
