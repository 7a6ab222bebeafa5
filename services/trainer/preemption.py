"""SIGTERM: the process has been asked to end, keeps what it has done, and exits with 75 to be run again.

A flag, read between steps, so that nothing is interrupted in the middle of a write. What is being exported and published
is finished first: that takes seconds, and a version that exists is never made twice.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from types import FrameType

from services.core.errors import Preempted


@dataclass
class Stop:
    """Whether the process should end; `check` between steps."""

    asked: bool = False

    def listen(self) -> None:
        """Take SIGTERM as the wish to end. Only in a process's main thread."""
        signal.signal(signal.SIGTERM, self._ask)

    def check(self) -> None:
        """Raises Preempted once the process was asked to end."""
        if self.asked:
            raise Preempted("The run was asked to end and is continued when it is started again.")

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
