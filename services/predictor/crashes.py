"""A version whose load kills the process twice is refused, so that the pod lives for the others.

Before each load a file is written into a folder that outlives the container (an emptyDir of the pod), and removed after
it. A restarted container that finds one knows in which version its predecessor died.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from services.core.errors import EngineError

MOST: Final = 2


@dataclass(frozen=True, slots=True)
class Crashes:
    """What is known of loads that never came to an end."""

    folder: Path

    @contextlib.contextmanager
    def watched(self, project_key: str, version: str) -> Iterator[None]:
        """A load. Raises EngineError, without one, for a version that has ended the process twice."""
        path = self._path(project_key, version)
        before = self._count(path)
        if before >= MOST:
            raise EngineError(f"Version {version} has ended this process {before} times while it was loaded.")
        self._note(path, before + 1)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def _note(self, path: Path, count: int) -> None:
        with contextlib.suppress(OSError):  # a full disk is said by what needs it
            self.folder.mkdir(parents=True, exist_ok=True)
            path.write_text(str(count))

    def _count(self, path: Path) -> int:
        try:
            return int(path.read_text())
        except (OSError, ValueError):
            return 0

    def _path(self, project_key: str, version: str) -> Path:
        name = hashlib.sha256(f"{project_key}/{version}".encode()).hexdigest()[:32]
        return self.folder / f"loading-{name}"
