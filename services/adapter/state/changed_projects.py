"""The projects for which something has happened outside the leader's thread, such as the end of a run: they are stepped at once."""

from __future__ import annotations

import threading
from collections.abc import Callable

from services.core.runs import project_id_of


class ChangedProjects:
    """A set of project ids that any thread adds to, and the leader's thread takes."""

    def __init__(self, wake: Callable[[], None]) -> None:
        """`wake` is called when something was added."""
        self._wake = wake
        self._ids: set[int] = set()
        self._lock = threading.Lock()

    def add_run(self, run: str) -> None:
        """Add the run's project."""
        with self._lock:
            self._ids.add(project_id_of(run))
        self._wake()

    def take(self) -> set[int]:
        """Return the projects, and forget them."""
        with self._lock:
            found, self._ids = self._ids, set()
        return found
