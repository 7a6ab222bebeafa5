"""log.txt of a run, by the run itself: its last 200 lines, an earlier process's before its own.

In a pod nobody else reads the log: the adapter has no right to. A child's is kept by the launcher that started it.
"""

from __future__ import annotations

import logging
from collections import deque

from services.core.errors import StoreError
from services.core.runs import Runs

LINES = 200


class Lines(logging.Handler):
    """Collects what is logged, as it is printed; status's thread writes it."""

    def __init__(self, runs: Runs, run: str) -> None:
        """Begins with what is kept already. Raises nothing: a log that cannot be read is begun anew."""
        super().__init__()
        self._runs, self._run = runs, run
        try:
            before = runs.log(run).splitlines()
        except StoreError:
            before = []
        self._lines = deque(before, maxlen=LINES)
        self._unwritten = False

    def listen(self) -> None:
        """Hear all that is printed from now on, in the same shape."""
        root = logging.getLogger()
        if root.handlers:
            self.setFormatter(root.handlers[0].formatter)
        root.addHandler(self)

    def close(self) -> None:
        """Hear nothing any more."""
        logging.getLogger().removeHandler(self)
        super().close()

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        try:
            self._lines.extend(self.format(record).splitlines())
            self._unwritten = True
        except Exception:  # noqa: BLE001 - as all handlers: a line that cannot be formatted ends nothing
            self.handleError(record)

    def write(self) -> None:
        """Keep what came since. A store that fails is not logged, which would be a line to write: it is tried again."""
        if not self._unwritten:
            return
        self._unwritten = False
        self.acquire()
        text = "".join(f"{line}\n" for line in self._lines)
        self.release()
        try:
            self._runs.store.write(f"runs/{self._run}/log.txt", text.encode())
        except StoreError:
            self._unwritten = True
