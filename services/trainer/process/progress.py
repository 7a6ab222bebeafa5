"""status.json of a run: its stage, its progress, and the seconds of each stage.

A thread writes it about every second, so that a long stage does not look like a dead process, and log.txt with it if the run
keeps that itself; changes of stage and the end are written at once. A store that fails is retried with back-off, and only
that thread waits for a slow one: the status neither ends nor delays a run. A terminal shows the same as a progress bar.
"""

from __future__ import annotations

import math
import sys
import threading
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Self

import structlog

from services.core.domain import NamesResult, PoolState, Published, RunState, RunStatus
from services.core.errors import StoreError
from services.core.runs import Runs
from services.core.telemetry import tracing
from services.trainer.process.lifecycle import Stop
from services.trainer.process.log_tail import LogTail
from services.trainer.process.resources import measure_usage

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_WRITE_SECONDS = 1.0
_USAGE_SECONDS = 2.0
"""Between two measurements of the process's resources."""
_MAX_PAUSE = 15.0
_WAIT_SECONDS = 2.0
"""How long a change waits to be written: longer than a healthy store needs."""
_FINAL_SECONDS = 60.0
"""How long the last status is retried."""
_FINAL_SECONDS_PREEMPTED = 10.0
"""The same for a process that was interrupted."""
log = structlog.get_logger()


@dataclass
class Progress:
    """The only writer of a run's status.json. Use as a context manager; `finish` before the end."""

    runs: Runs
    status: RunStatus
    log_tail: LogTail | None = None
    """Written as log.txt; None if nothing or another process writes it."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _condition: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False
    _requested: int = 0
    _written: int = 0
    _stage_started_at: float = field(default_factory=time.monotonic)
    _finished_seconds: dict[str, float] = field(default_factory=dict)
    _resumed_at: int = 0
    _measured_at: float = -math.inf
    _bar: Bar | None = None
    _span: tracing.Span = tracing.INVALID_SPAN

    def __enter__(self) -> Self:
        """Write the first status and start the thread."""
        self._update(state=RunState.RUNNING)
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)
        self._thread.start()
        self._write_now()
        if sys.stderr.isatty():
            self._bar = _open_bar()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the thread."""
        self._end()
        if self._bar is not None:
            self._bar.stop()

    def stage(self, name: str, steps: int = 0, done: int = 0) -> None:
        """Begin the next stage, `done` of its steps by an earlier process; the last stage's seconds are final."""
        with self._lock:
            self._finished_seconds = self._seconds()
            self._stage_started_at, self._resumed_at = time.monotonic(), done
            self._update(
                stage=name, step=done, steps=steps, loss=None, texts_per_second=None, seconds_left=None
            )
        log.info("stage_started", stage=name, seconds=round(sum(self._finished_seconds.values()), 2))
        self._span.end()
        self._span = tracing.start(f"stage {name}", {"stage": name})
        if self._bar is not None:
            self._bar.reset(self._bar.task_ids[0], total=steps or None, description=name)
        self._write_now()

    def step(self, step: int, loss: float | None = None, texts_per_second: float | None = None) -> None:
        """Set how many of the stage's steps are done; the time left is extrapolated from the steps so far."""
        with self._lock:
            each = (time.monotonic() - self._stage_started_at) / max(step - self._resumed_at, 1)
            left = round(each * max(self.status.steps - step, 0), 1)
            self._update(step=step, loss=loss, texts_per_second=texts_per_second, seconds_left=left)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step)

    def set_message(self, message: str) -> None:
        """Set the message for people."""
        self._update(message=message)

    def set_pool(self, pool: PoolState) -> None:
        """Set what the run has left of the pool."""
        self._update(pool=pool)

    def set_names(self, names: NamesResult) -> None:
        """Set what became of the wish for a version from label names, at once: the leader waits for it."""
        self._update(names=names)
        self._write_now()

    def restore_published(self, versions: tuple[Published, ...]) -> None:
        """Set the versions that earlier attempts of this run have published."""
        self._update(published=versions, message=versions[-1].sentence if versions else "")
        self._write_now()

    def add_published(self, version: Published) -> None:
        """Add a published version."""
        self._update(published=(*self.status.published, version), message=version.sentence)
        self._write_now()

    def finish(self, state: RunState, exit_code: int, message: str | None = None) -> None:
        """Write the last status of this process, retried for a minute. Raises StoreError."""
        self._end()
        with self._lock:
            kept = self.status.message if message is None else message
            self._update(
                state=state, exit_code=exit_code, message=kept, seconds=self._seconds(), seconds_left=None
            )
        patience = _FINAL_SECONDS_PREEMPTED if state is RunState.PREEMPTED else _FINAL_SECONDS
        Stop().retry(lambda: self.runs.write(self.status), patience)
        self._write_log(now=True)

    def _end(self) -> None:
        """Stop the thread and wait for its last write."""
        self._span.end()
        self._span = tracing.INVALID_SPAN
        with self._condition:
            self._ended = True
            self._condition.notify_all()
        self._thread.join()

    def _write_now(self) -> None:
        """Have the thread write, and wait for it unless the store is slow."""
        with self._condition:
            self._requested += 1
            wanted = self._requested
            self._condition.notify_all()
            self._condition.wait_for(lambda: self._written >= wanted or self._ended, _WAIT_SECONDS)

    def _run(self) -> None:
        pause = _WRITE_SECONDS
        while True:
            with self._condition:
                self._condition.wait_for(lambda: self._ended or self._requested > self._written, pause)
                if self._ended:
                    return
                wanted = self._requested
            pause = _WRITE_SECONDS if self._write() else min(2 * pause, _MAX_PAUSE)
            with self._condition:
                self._written = wanted
                self._condition.notify_all()

    def _write(self) -> bool:
        self._measure()
        with self._lock:
            self._update(seconds=self._seconds())
            status = self.status
        try:
            self.runs.write(status)
        except StoreError as error:
            log.warning("status_not_written", error=str(error))
            return False
        return self._write_log()

    def _measure(self) -> None:
        now = time.monotonic()
        if now - self._measured_at >= _USAGE_SECONDS:
            self._measured_at = now
            self._update(**asdict(measure_usage()))

    def _write_log(self, *, now: bool = False) -> bool:
        try:
            if self.log_tail is not None:
                self.log_tail.flush(now=now)
        except StoreError as error:
            log.warning("log_not_written", error=str(error))
            return False
        return True

    def _seconds(self) -> dict[str, float]:
        stage = self.status.stage
        if not stage:
            return self._finished_seconds
        spent = self._finished_seconds.get(stage, 0.0) + time.monotonic() - self._stage_started_at
        return self._finished_seconds | {stage: round(spent, 3)}

    def _update(self, **changes: object) -> None:
        with self._lock:
            self.status = replace(self.status, updated_at=time.time(), **changes)  # type: ignore[arg-type]  # fields of RunStatus by name


def first_status(runs: Runs, run: str) -> RunStatus:
    """Return the first status of this process: the next attempt, with the versions of the last one.

    The leader may count an attempt in launch.json after its process has started, and a process may have died before its first
    status: the number is above all of those that any of them has left. Raises StoreError.
    """
    last, launch = runs.status(run), runs.launch_state(run)
    newest = launch.attempts[-1] if launch and launch.attempts else None
    launched = newest.number + (newest.ended_at is not None) if newest else 1
    checkpoints = (int(name) for name in runs.store.folders(f"runs/{run}/checkpoints/") if name.isdigit())
    attempt = max(launched, last.attempt + 1 if last else 1, max(checkpoints, default=0) + 1)
    return RunStatus(run, RunState.RUNNING, attempt=attempt, published=last.published if last else ())


def _open_bar() -> Bar:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    bar = RichProgress(console=Console(stderr=True), transient=True)
    bar.add_task("starting", total=None)
    bar.start()
    return bar
