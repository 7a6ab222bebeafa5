"""Projects as values of the label `project`: so many, and all beyond under one name."""

from __future__ import annotations

import threading
from typing import Final

OTHER: Final = "other"


class Names:
    """Projects as the label `project`: the first `most` that came, those beyond as `other`. From any thread."""

    def __init__(self, most: int = 200) -> None:
        """Nobody has a name yet."""
        self.most = most
        self._known: set[int] = set()
        self._lock = threading.Lock()

    def of(self, project_id: int) -> str:
        """The value of the label; a project that has one keeps it."""
        with self._lock:
            if project_id not in self._known and len(self._known) < self.most:
                self._known.add(project_id)
            return str(project_id) if project_id in self._known else OTHER

    def leave(self, project_id: int) -> None:
        """The project is gone, and another one may have its place."""
        with self._lock:
            self._known.discard(project_id)


projects: Final = Names()
