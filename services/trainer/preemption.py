"""SIGTERM: the process has been asked to end, keeps what it has done, and exits with 75 to be run again.

A flag, read between steps, so that nothing is interrupted in the middle of a write. What is being exported and published
is finished first: that takes seconds, and a version that exists is never made twice.
"""

from __future__ import annotations

import math
import signal
import time
from dataclasses import dataclass
from types import FrameType

from services.core.errors import FitloopError, Preempted


class OutOfTime(FitloopError):
    """Work that may be left out has taken longer than it may."""


@dataclass
class Stop:
    """Whether the process should end; `check` between steps."""

    asked: bool = False
    deadline: float = math.inf
    """When work that may be left out has taken too long, by time.monotonic()."""

    def listen(self) -> None:
        """Take SIGTERM, and Ctrl-C, as the wish to end. Only in a process's main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._ask)

    def check(self) -> None:
        """Raises Preempted once the process was asked to end, OutOfTime after the deadline."""
        if self.asked:
            raise Preempted("The run was asked to end and is continued when it is started again.")
        if time.monotonic() > self.deadline:
            raise OutOfTime("It took longer than it may.")

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
