"""The Leadership port in one process: the lock on the data folder. Who holds it leads, from start to end."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from services.embedded.lock import take


class FileLeadership:
    """Leads while it holds the folder's lock."""

    def __init__(self, folder: Path) -> None:
        """Nothing is held yet."""
        self._folder = folder
        self._handle: int | None = None

    def start(self, on_change: Callable[[], None]) -> None:
        """Take the lock, if it is not ours already. Raises Locked with the holder's pid, or BadConfig."""
        if self._handle is None:
            self._handle = take(self._folder)
        on_change()

    def leads(self, seconds: float = 0.0) -> bool:
        """Whether the lock is held: nobody can take it away, however long a write takes."""
        del seconds
        return self._handle is not None

    def stop(self) -> None:
        """Give the lock back."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)
