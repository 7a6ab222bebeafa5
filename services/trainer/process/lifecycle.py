"""How a process of a run ends: on SIGTERM, out of time, with an error, or done.

SIGTERM sets a flag that is read between steps, so that no write is interrupted: the process keeps what it has done and
exits with 75, to be run again. Where nothing is written (labels are read, a model is loaded, a version is put together in a
temporary folder) `interruptible` lets the signal end the work at once. Publishing is finished first: it takes seconds, and
no version is made twice.
"""

from __future__ import annotations

import errno
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
from typing import Final, Generic, NamedTuple, TypeVar

import structlog

from services.core.domain import RunState
from services.core.errors import BadConfig, FitloopError, NotFound, Preempted, StoreError
from services.core.runs import Runs
from services.core.telemetry.logs import safe_traceback

T = TypeVar("T")
log = structlog.get_logger()
_POLL_SECONDS = 0.2
"""Between two checks during a wait."""
_MAX_PAUSE = 20.0
"""The longest pause between two tries."""
_FOLLOW_SECONDS = 30.0
"""How long a process waits to read how rank 0 has ended."""
BUG: Final = "it crashed. This is a bug in Fitloop: please report it with the stack trace in the run's log."
_THREAD_NAME = "loading"
_PERMANENT: Final = frozenset(
    {
        errno.EACCES,
        errno.EDQUOT,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSPC,
        errno.ENOTDIR,
        errno.EPERM,
        errno.EROFS,
    }
)
"""Errors of the operating system that a retry does not cure."""


class DeadlinePassed(FitloopError):
    """Optional work has exceeded its time limit."""


class RunTimeExceeded(BadConfig):
    """The run has used all of its time (exit 78): another process of it would not get further."""


@dataclass
class Stop:
    """Whether the process should end; call `check` between steps."""

    requested: bool = False
    deadline: float = math.inf
    """When optional work has taken too long, by time.monotonic()."""
    limit: float = math.inf
    """When the run's own time is over, by time.monotonic()."""
    limit_seconds: float = 0.0
    """The run's own time, for its error."""
    _interruptible: bool = False

    def install_handlers(self) -> None:
        """Handle SIGTERM and Ctrl-C as requests to end. Only in a process's main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def limit_to(self, seconds: float) -> None:
        """Give the run this many seconds from now on; 0 means no limit."""
        if seconds:
            self.limit_seconds, self.limit = seconds, time.monotonic() + seconds

    def reason(self) -> FitloopError | None:
        """Return Preempted once the process was interrupted, DeadlinePassed after `deadline`, RunTimeExceeded after `limit`."""
        if self.requested:
            return preempted()
        if time.monotonic() > self.limit:
            return RunTimeExceeded(
                f"The run did not finish within its {self.limit_seconds:.0f} s: give it more (FITLOOP_RUN_SECONDS; in the chart "
                "trainer.activeDeadlineSeconds), a GPU, or less to do (METHOD=linear-probe, a smaller BASELINE_MODEL_NAME)."
            )
        if time.monotonic() > self.deadline:
            return DeadlinePassed("It exceeded its time limit.")
        return None

    def check(self) -> None:
        """Raise what `reason` returns."""
        if error := self.reason():
            raise error

    def wait(self, seconds: float) -> None:
        """Sleep, or raise sooner what `check` raises."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.check()
            time.sleep(min(_POLL_SECONDS, left))

    def retry(self, work: Callable[[], T], seconds: float, pause: float = 0.5) -> T:
        """Return what `work` returns, retrying transient errors for `seconds`. Raises its last StoreError, and what `check` raises."""
        until = time.monotonic() + seconds
        while True:
            try:
                return work()
            except StoreError as error:
                if not is_transient(error) or self.requested or time.monotonic() > until:
                    raise
                log.warning("store_retried", reason=str(error), seconds=pause)
            self.wait(pause)
            pause = min(2 * pause, _MAX_PAUSE)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let SIGTERM end the work within at once. Only in the main thread. Raises Preempted."""
        self.check()
        self._interruptible = True
        try:
            yield
        except Exception:
            if self.requested:  # a library may have turned the signal into an error of its own
                raise preempted() from None
            raise
        finally:
            self._interruptible = False
        self.check()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
        if self._interruptible:
            self._interruptible = False  # once: the clean-up is not interrupted as well
            raise preempted()


def preempted() -> Preempted:
    """Return the error of a process that was interrupted."""
    return Preempted("The run was interrupted and continues when it is started again.")


def is_transient(error: Exception) -> bool:
    """Return whether a retry of the store may succeed."""
    if not isinstance(error, StoreError) or isinstance(error, NotFound):
        return False
    cause = error.__cause__
    return error.transient or (isinstance(cause, OSError) and cause.errno not in _PERMANENT)


class BackgroundCall(Generic[T]):
    """A slow call in a thread of its own, which a process that ends does not wait for."""

    def __init__(self, call: Callable[[], T]) -> None:
        """Start the call."""
        self._call = call
        self._result: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=_THREAD_NAME, daemon=True)
        self._thread.start()

    def result(self, stop: Stop) -> T:
        """Return or raise what the call did; a signal ends the wait. Raises Preempted."""
        with stop.interruptible():
            self._thread.join()
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _work(self) -> None:
        try:
            self._result.append(self._call())
        except BaseException as error:  # noqa: BLE001 - raised again by `result`
            self._error = error


class Exit(NamedTuple):
    """How a process ends."""

    state: RunState
    code: int
    message: str | None


def exit_for(error: Exception, stage: str) -> Exit:
    """Log the error and return the exit that it means, with a message for people."""
    if isinstance(error, FitloopError):
        is_preempted = error.exit_code == Preempted.exit_code
        (log.warning if is_preempted else log.error)("run_ended_early", reason=str(error))
        return Exit(RunState.PREEMPTED if is_preempted else RunState.FAILED, error.exit_code, str(error))
    log.error("run_crashed", frames=safe_traceback(error))
    return Exit(RunState.FAILED, 1, f"The run failed in stage {stage or 'starting'!r}: {BUG}")


def exit_code_of_leader(runs: Runs, name: str, own: Exit) -> int:
    """Return the exit code of rank 0 as soon as its status has it, for a process that ended because it lost rank 0."""
    if own.code != Preempted.exit_code:
        return own.code
    until = time.monotonic() + _FOLLOW_SECONDS
    while time.monotonic() < until:
        try:
            status = runs.status(name)
        except StoreError:
            status = None
        if status is not None and status.exit_code is not None:
            return status.exit_code
        time.sleep(0.1)
    return own.code


def exit_process(code: int) -> None:
    """End the process; at once while a BackgroundCall runs, which cannot be interrupted."""
    if any(thread.name == _THREAD_NAME for thread in threading.enumerate()):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
