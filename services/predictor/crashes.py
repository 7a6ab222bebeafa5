"""Refuse what crashed the process while it was loaded, so that the pod survives for the others.

Before each load a file is written into a folder that outlives the container (an emptyDir of the pod), and removed after it.
A restarted container that finds the file knows what its predecessor was loading. A crash is blamed on the load only if nothing
else could have caused it: no request was served, and memory was not scarce. After two others the load is delayed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

from services.core.errors import EngineError, Overloaded
from services.core.http.limits import memory_limit
from services.engine.loading import EncoderKey

MAX_CRASHES: Final = 2
DELAY_SECONDS: Final = 600.0
"""Between attempts at a load that may not be the cause of the crashes."""


class Crashes(NamedTuple):
    """The crashes of one load so far."""

    blamed: int = 0
    """Nothing but the load could have been the cause."""
    unclear: int = 0

    @property
    def is_refused(self) -> bool:
        """Return whether the load is the cause."""
        return self.blamed > 0 and self.blamed + self.unclear >= MAX_CRASHES


@dataclass
class CrashGuard:
    """Counts the loads that crashed."""

    folder: Path
    is_serving: Callable[[], bool] = lambda: False
    """Whether requests are answered during a load."""
    clock: Callable[[], float] = time.time
    _loading: dict[Path, Crashes] = field(default_factory=dict)
    """Loads in progress, and how many crashed before."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def guard(self, key: EncoderKey, size: int) -> Iterator[None]:
        """Guard a load of so many bytes. Raises EngineError if it crashed the process, or a library is missing.

        Raises Overloaded if the process crashed twice during the load, and the cause is not known.
        """
        path = self._path(key)
        before = _read(path)
        if before.is_refused:
            raise EngineError(f"Loading {key} crashed the predictor {sum(before)} times: train again.")
        if before.unclear >= MAX_CRASHES and self.clock() < _changed_at(path) + DELAY_SECONDS:
            raise Overloaded(
                f"The predictor crashed {sum(before)} times while it loaded {key}, served requests or had little memory left: "
                "if it was killed for its memory, raise the memory limit. The next attempt is in ten minutes."
            )
        self._begin(path, before, size)
        try:
            yield
        except ModuleNotFoundError as error:
            raise EngineError(
                f"The {key} needs {error.name}, which this predictor's image lacks: use an image built with WITH_TORCH=true."
            ) from error
        finally:
            with self._lock, contextlib.suppress(OSError):
                self._loading.pop(path, None)
                path.unlink(missing_ok=True)

    def forgive_current_loads(self) -> None:
        """Reset the counts of loads in progress at shutdown: an interrupted load is no crash."""
        with self._lock:
            for path, before in self._loading.items():
                _write(path, before)

    def _begin(self, path: Path, before: Crashes, size: int) -> None:
        with self._lock:
            is_unclear = self._loading or self.is_serving() or is_scarce(size)
            if is_unclear:
                now = before._replace(unclear=before.unclear + 1)
            else:
                now = before._replace(blamed=before.blamed + 1)
            self._loading[path] = before
            _write(path, now)

    def _path(self, key: EncoderKey) -> Path:
        name = hashlib.sha256("/".join(key).encode()).hexdigest()[:32]
        return self.folder / f"loading-{name}"


def is_scarce(size: int) -> bool:
    """Return whether loading so many bytes may exceed the memory limit; a load needs them twice for a moment."""
    return _resident_bytes() + 2 * size > memory_limit()


def _resident_bytes() -> int:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):  # macOS
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _write(path: Path, crashes: Crashes) -> None:
    with contextlib.suppress(OSError):  # a full disk is reported by what needs it
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{crashes.blamed} {crashes.unclear}", encoding="ascii")


def _read(path: Path) -> Crashes:
    try:
        return Crashes(*map(int, path.read_text(encoding="ascii").split()))
    except (OSError, ValueError, TypeError):
        return Crashes()


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
