"""A version whose load kills the process twice is refused, so that the pod lives for the others; so is one for another image.

Before each load a file is written into a folder that outlives the container (an emptyDir of the pod), and removed after
it. A restarted container that finds one knows in which version its predecessor died.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from services.core.errors import EngineError

MAX_CRASHES: Final = 2


@dataclass(frozen=True, slots=True)
class CrashGuard:
    """What is known of loads that never came to an end."""

    folder: Path
    _loading: dict[Path, int] = field(default_factory=dict)
    """Loads that go on, and how many came to no end before."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def guard(self, project_key: str, version: str) -> Iterator[None]:
        """A load. Raises EngineError for a version that has ended the process twice, or needs a library that is not here."""
        path = self._path(project_key, version)
        before = _read_count(path)
        if before >= MAX_CRASHES:
            raise EngineError(
                f"Loading version {version} ended the predictor's process {before} times: it may need more memory "
                "than the pod has."
            )
        self._begin(path, before)
        try:
            yield
        except ModuleNotFoundError as error:
            raise EngineError(
                f"Version {version} needs {error.name}, which this predictor's image was built without: use one that was "
                "built with WITH_TORCH=true."
            ) from error
        finally:
            with self._lock, contextlib.suppress(OSError):
                self._loading.pop(path, None)
                path.unlink(missing_ok=True)

    def forgive_current_loads(self) -> None:
        """The process ends in good order: a load that is cut off by that is no crash."""
        with self._lock:
            for path, before in self._loading.items():
                _write_count(path, before)

    def _begin(self, path: Path, before: int) -> None:
        with self._lock:
            self._loading[path] = before
            _write_count(path, before + 1)

    def _path(self, project_key: str, version: str) -> Path:
        name = hashlib.sha256(f"{project_key}/{version}".encode()).hexdigest()[:32]
        return self.folder / f"loading-{name}"


def _write_count(path: Path, count: int) -> None:
    with contextlib.suppress(OSError):  # a full disk is said by what needs it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(count), encoding="ascii")


def _read_count(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
