"""log.txt of a run: the last lines that its processes wrote to stderr, log lines and everything else.

The run writes it itself in a pod, where no parent process does. Logs hold no text of a task and no token, nor does this.
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
"""Characters of a line."""
_FLUSH_SECONDS = 3.0
"""Between two writes of log.txt."""


@dataclass
class LogTail:
    """The last lines. One thread calls `flush`; any thread may write lines."""

    runs: Runs
    run: str
    _lines: deque[str] = field(default_factory=lambda: deque(maxlen=LINES))
    _rest: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _changed: bool = False
    _flushed_at: float = 0.0

    @contextmanager
    def capturing(self) -> Iterator[None]:
        """Copy what is written to stderr, after the lines that an earlier process left."""
        with suppress(StoreError):  # the lines of an earlier process are worth no failure
            self._lines.extend(self.runs.log(self.run).splitlines())
        before, sys.stderr = sys.stderr, _Tee(sys.stderr, self)
        try:
            yield
        finally:
            sys.stderr = before

    def feed(self, text: str) -> None:
        """Append text."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
            self._lines.extend(_final_state(line) for line in lines)
            self._changed = self._changed or bool(lines)

    def flush(self, *, now: bool = False) -> None:
        """Write log.txt if there are new lines, at most every few seconds unless `now`. Raises StoreError."""
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
    """stderr, copied to a LogTail."""

    def __init__(self, stderr: TextIO, log_tail: LogTail) -> None:
        self._stderr = stderr
        self._log_tail = log_tail

    def write(self, text: str) -> int:
        self._log_tail.feed(text)
        return self._stderr.write(text)

    def flush(self) -> None:
        self._stderr.flush()

    def isatty(self) -> bool:
        return self._stderr.isatty()

    def fileno(self) -> int:
        return self._stderr.fileno()


def _final_state(line: str) -> str:
    """Return a line as a terminal shows it: of a progress bar, the last state."""
    return line.rstrip("\r").rpartition("\r")[2][:_MAX_LINE]
