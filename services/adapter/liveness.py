"""Whether a replica can do the leader's work: for how long its ticks have failed, and whether its thread makes progress.

A replica that holds the lead without working keeps others, which may be able to, from leading.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from services.core.retry import Backoff

MAX_FAILING_SECONDS: Final = 15.0
"""A leader resigns if no tick has succeeded for this long after the first that failed, or if its thread makes no progress for this long."""
_FIRST_WAIT: Final = 30.0
"""Seconds before a replica stands again after it resigned: another replica leads first."""
_LONGEST_WAIT: Final = 240.0
_GOOD_TERM_SECONDS: Final = 60.0
"""A term whose ticks still succeed after this long ends the doubling of the wait."""
_LONGEST_LOOK: Final = 4.0
"""Seconds that may count between two looks at a heartbeat: any more, and this process or its machine was stopped."""


@dataclass(slots=True)
class TermHealth:
    """Decides when a leader whose ticks fail resigns, and for how long."""

    _began: float = 0.0
    _failing_since: float | None = None
    _wait: Backoff = field(default_factory=lambda: Backoff(_FIRST_WAIT, _LONGEST_WAIT))

    def begin(self, now: float) -> None:
        """Begin a term."""
        self._began, self._failing_since = now, None

    def succeeded(self, now: float) -> None:
        """Note a tick that did all its work."""
        self._failing_since = None
        if now - self._began >= _GOOD_TERM_SECONDS:
            self._wait.succeeded()

    def failed(self, began: float, now: float) -> float | None:
        """Note a tick that failed; return how many seconds not to stand for leader if it is time to resign, else None."""
        if self._failing_since is None:
            self._failing_since = began
        return self._wait.next() if now - self._failing_since >= MAX_FAILING_SECONDS else None


class Heartbeat:
    """The progress of one thread, as another thread sees it."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._owner: int | None = None
        self._beats = 0
        self._seen_beats = 0
        self._seen_at = clock()
        self._silent_seconds = 0.0

    def own(self) -> None:
        """Count beats of the calling thread alone from now on."""
        self._owner = threading.get_ident()

    def beat(self) -> None:
        """Report progress."""
        if self._owner in {None, threading.get_ident()}:
            self._beats += 1

    def is_silent(self) -> bool:
        """Return whether there was no progress for too long. To be asked every few seconds, by one thread.

        Time in which the process was stopped, or its machine slept, does not count: nothing could make progress.
        """
        now, beats = self._clock(), self._beats
        passed = min(now - self._seen_at, _LONGEST_LOOK)
        self._silent_seconds = 0.0 if beats != self._seen_beats else self._silent_seconds + passed
        self._seen_at, self._seen_beats = now, beats
        return self._silent_seconds >= MAX_FAILING_SECONDS
