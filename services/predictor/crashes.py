"""Refuse a version whose load crashed the process twice, so that the pod survives for the others.

Before each load a file is written into a folder that outlives the container (an emptyDir of the pod), and removed after it.
A restarted container that finds the file knows which version its predecessor was loading.
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
    """Counts the loads that crashed, by version."""

    folder: Path
    _loading: dict[Path, int] = field(default_factory=dict)
    """Loads in progress, and how many crashed before."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def guard(self, project_key: str, version: str) -> Iterator[None]:
        """Guard a load. Raises EngineError if the version crashed the process twice, or a library is missing."""
        path = self._path(project_key, version)
        before = _read_count(path)
        if before >= MAX_CRASHES:
            raise EngineError(
                f"Loading version {version} crashed the predictor {before} times: it may need more memory than the pod has."
            )
        self._begin(path, before)
        try:
            yield
        except ModuleNotFoundError as error:
            raise EngineError(
                f"Version {version} needs {error.name}, which this predictor's image lacks: use an image built with "
                "WITH_TORCH=true."
            ) from error
        finally:
            with self._lock, contextlib.suppress(OSError):
                self._loading.pop(path, None)
                path.unlink(missing_ok=True)

    def forgive_current_loads(self) -> None:
        """Reset the counts of loads in progress at shutdown: an interrupted load is no crash."""
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
    with contextlib.suppress(OSError):  # a full disk is reported by what needs it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(str(count), encoding="ascii")


def _read_count(path: Path) -> int:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0
