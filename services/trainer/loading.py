"""Something slow that is begun while others are waited for, and that a process which ends does not wait for."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from services.trainer.preemption import Stop

T = TypeVar("T")
_THREAD_NAME = "loading"


class BackgroundCall(Generic[T]):
    """A call in a thread of its own."""

    def __init__(self, load: Callable[[], T]) -> None:
        """Begin."""
        self._load = load
        self._found: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=_THREAD_NAME, daemon=True)
        self._thread.start()

    def result(self, stop: Stop) -> T:
        """What the call gave or raised; a signal ends the wait. Raises Preempted."""
        with stop.interruptible():
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._found[0]

    def _work(self) -> None:
        try:
            self._found.append(self._load())
        except BaseException as error:  # noqa: BLE001 - raised again where it is asked for
            self._error = error


def exit_process(code: int) -> None:
    """End the process; at once where something is still being loaded, which nobody can interrupt."""
    if any(thread.name == _THREAD_NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
