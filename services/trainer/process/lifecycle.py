"""SIGTERM: the process has been asked to end, keeps what it has done, and exits with 75 to be run again.

A flag, read between steps, so that nothing is interrupted in the middle of a write. Where nothing is written (labels are
read, a model is loaded, a version is put together in a temporary folder) `at_once` lets the signal end the work where it
stands. What is being published is finished first: that takes seconds, and a version that exists is never made twice.
Beside it, two times that may run out: that of work which may be left out, and the run's own.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Generic, TypeVar

from services.core.errors import BadConfig, FitloopError, Preempted

_POLL_SECONDS = 0.2
"""Seconds after which a wait looks whether it should end."""


class DeadlinePassed(FitloopError):
    """Work that may be left out has taken longer than it may."""


class RunTimeExceeded(BadConfig):
    """The run has taken all of its time (exit 78): another process of it would not get further."""


@dataclass
class Stop:
    """Whether the process should end; `check` between steps."""

    requested: bool = False
    deadline: float = math.inf
    """When work that may be left out has taken too long, by time.monotonic()."""
    limit: float = math.inf
    """When the run's own time is over, by time.monotonic()."""
    limit_seconds: float = 0.0
    """Seconds that the run was given, for the sentence."""
    _interruptible: bool = False

    def install_handlers(self) -> None:
        """Take SIGTERM, and Ctrl-C, as the wish to end. Only in a process's main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def limit_to(self, seconds: float) -> None:
        """From now on the run has so many seconds; 0: as many as it likes."""
        if seconds:
            self.limit_seconds, self.limit = seconds, time.monotonic() + seconds

    @property
    def is_out_of_time(self) -> bool:
        """Whether the run's own time is over."""
        return time.monotonic() > self.limit

    def reason(self) -> FitloopError | None:
        """Preempted once the process was asked to end, OutOfTime after the deadline, RunOutOfTime after the limit."""
        if self.requested:
            return _preempted()
        if self.is_out_of_time:
            return RunTimeExceeded(
                f"The run was not done within its {self.limit_seconds:.0f} s: give it more (FITLOOP_RUN_SECONDS; in the chart "
                "trainer.activeDeadlineSeconds), a GPU, or less to do (METHOD=linear-probe, a smaller BASELINE_MODEL_NAME)."
            )
        if time.monotonic() > self.deadline:
            return DeadlinePassed("It took longer than it may.")
        return None

    def check(self) -> None:
        """Raises what `why` says."""
        if error := self.reason():
            raise error

    def wait(self, seconds: float) -> None:
        """Sleep, or raise sooner what `check` raises."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(_POLL_SECONDS, left))

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Work that may be broken off anywhere: SIGTERM ends it where it stands. Only in the main thread. Raises Preempted."""
        self.check()
        self._interruptible = True
        try:
            yield
        except Exception:
            if self.requested:  # whatever a library made of it
                raise _preempted() from None
            raise
        finally:
            self._interruptible = False
        self.check()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._interruptible:
            self._interruptible = False  # once: what tidies up is not broken off as well
            raise _preempted()


def _preempted() -> Preempted:
    return Preempted("The run was asked to end and is continued when it is started again.")


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
