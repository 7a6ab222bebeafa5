"""log.txt of a run: the last lines that its process wrote to stderr, log lines and all else, beside what an earlier one left.

Kept by the run itself where no parent listens to it, in a pod. What is logged holds no text and no token, nor does this.
"""

from __future__ import annotations

import io
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TextIO

from services.core.errors import StoreError
from services.core.runs import Runs

LINES = 200
_MAX_LINE = 2_000
"""Characters of a line that are kept."""
_FLUSH_SECONDS = 3.0
"""Between two writes of log.txt."""


@dataclass
class LogTail:
    """The last lines. `keep` is called from one thread, lines come from any."""

    runs: Runs
    run: str
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    _rest: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changed: bool = False
    _flushed_at: float = 0.0

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Hear what is written to stderr, which gets it as before."""
        with suppress(StoreError):  # what an earlier process said is worth no failure
            self._lines.extend(self.runs.log(self.run).splitlines())
        before, sys.stderr = sys.stderr, _Tee(sys.stderr, self)
        try:
            yield
        finally:
            sys.stderr = before

    def feed(self, text: str) -> None:
        """Some characters more."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            self._lines.extend(_final_state(line) for line in lines)
            self._changed = self._changed or bool(lines)

    def flush(self, *, now: bool = False) -> None:
        """Write log.txt where lines have come, every few seconds, or `now`. Raises StoreError."""
        if not self._changed or not (now or time.monotonic() - self._flushed_at >= _FLUSH_SECONDS):
            return
        with self._lock:
            text, self._changed = "".join(f"{line}\n" for line in self._lines), False
        self._flushed_at = time.monotonic()
        try:
            self.runs.store.write(f"runs/{self.run}/log.txt", text.encode())
        except StoreError:
            self._changed = True
            raise


class _Tee(io.TextIOBase):
    """stderr, and somebody who hears it."""

    def __init__(self, stderr: TextIO, printed: LogTail) -> None:
        self._stderr = stderr
        self._printed = printed

    def write(self, text: str) -> int:
        self._printed.feed(text)
        return self._stderr.write(text)

    def flush(self) -> None:
        self._stderr.flush()

    def isatty(self) -> bool:
        return self._stderr.isatty()

    def fileno(self) -> int:
        return self._stderr.fileno()


def _final_state(line: str) -> str:
    """A line as a person would see it: of a progress bar, the last state."""
    return line.rstrip("\r").rpartition("\r")[2][:_MAX_LINE]
