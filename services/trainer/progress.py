"""status.json of a run: what it does now, how far it is, how long it took so far.

A thread writes it about every second, so that a long stage cannot look like a dead process, and log.txt with it where the
run keeps that itself; every change of stage and the end are written at once. A store that fails is asked again ever more
seldom, and one that is slow is waited for by that thread alone: a run does not die of its status, nor stand still for it.
On a terminal the same is shown as a progress bar.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import structlog

from services.core.domain import Launch, Published, RunState, RunStatus
from services.core.errors import StoreError
from services.core.runs import Runs
from services.trainer.preemption import Stop
from services.trainer.printed import Printed
from services.trainer.stores import patiently

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_SECONDS = 1.0
_LONGEST_PAUSE = 15.0
_MOMENT = 2.0
"""Seconds that a change waits to be written: longer than a healthy store needs."""
_LAST = 60.0
"""Seconds for which the last status is tried."""
_LAST_HASTE = 10.0
"""The same for a process that was asked to end."""
log = structlog.get_logger()


@dataclass
class Progress:
    """The only writer of a run's status.json. Use as a context manager; `finish` before the end."""

    runs: Runs
    status: RunStatus
    printed: Printed | None = None
    """What is kept as log.txt; None: nothing, or somebody else does."""
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _turn: threading.Condition = field(default_factory=threading.Condition)
    _ended: bool = False
    _wanted: int = 0
    _written: int = 0
    _since: float = field(default_factory=time.monotonic)
    _settled: dict[str, float] = field(default_factory=dict)
    _resumed_at: int = 0
    _bar: Bar | None = None

    def __enter__(self) -> Self:
        """Write the first status and go on writing."""
        self._update(state=RunState.RUNNING)
        if self.writes and sys.stderr.isatty():
            self._bar = _open_bar()
        self._thread = threading.Thread(target=self._work, name="status", daemon=True)
        self._thread.start()
        self._write()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop writing."""
        self._end()
        if self._lines is not None:
            self._lines.close()
        if self._bar is not None:
            self._bar.stop()

    def keep(self, lines: Lines) -> None:
        """Write log.txt as well, from now on."""
        self._lines = lines
        lines.listen()

    def stage(self, name: str, steps: int = 0, done: int = 0) -> None:
        """The next stage begins, `done` of its steps by an earlier process; the last stage's seconds are settled."""
        with self._lock:
            self._settled = self._seconds()
            self._since, self._resumed_at = time.monotonic(), done
            self._update(
                stage=name, step=done, steps=steps, loss=None, texts_per_second=None, seconds_left=None
            )
        log.info("stage", stage=name, seconds=round(sum(self._settled.values()), 2))
        if self._bar is not None:
            self._bar.reset(self._bar.task_ids[0], total=steps or None, description=name)
        self._write_now()

    def step(self, step: int, loss: float | None = None, texts_per_second: float | None = None) -> None:
        """So many of the stage's steps are done; time left is that of the steps so far, continued."""
        with self._lock:
            each = (time.monotonic() - self._since) / max(step - self._resumed_at, 1)
            left = round(each * max(self.status.steps - step, 0), 1)
            self._update(step=step, loss=loss, texts_per_second=texts_per_second, seconds_left=left)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step)

    def say(self, message: str) -> None:
        """A sentence for people."""
        self._update(message=message)

    def found(self, versions: tuple[Published, ...]) -> None:
        """Exactly these versions exist, of this run's earlier processes."""
        self._update(published=versions, message=versions[-1].sentence if versions else "")
        self._write_now()

    def published(self, version: Published) -> None:
        """A version exists now."""
        self._update(published=(*self.status.published, version), message=version.sentence)
        self._write_now()

    def finish(self, state: RunState, exit_code: int, message: str | None = None) -> None:
        """The last status of this process, which the store must take: raises StoreError."""
        self._end()
        with self._lock:
            kept = self.status.message if message is None else message
            self._update(
                state=state, exit_code=exit_code, message=kept, seconds=self._seconds(), seconds_left=None
            )
        if self.writes:
            self._write_log()
            self.runs.write(self.status)

    def _end(self) -> None:
        """No write is under way afterwards, nor begun: an older status never follows the last one."""
        with self._due:
            self._ended = True
            self._due.notify_all()
        self._thread.join()

    def _write(self) -> None:
        """Have it written now, by the thread; one that takes long is not waited for."""
        with self._due:
            self._asked += 1
            wanted = self._asked
            self._due.notify_all()
            self._due.wait_for(lambda: self._done >= wanted or self._ended, _PATIENCE)

    def _work(self) -> None:
        while True:
            with self._due:
                self._due.wait_for(lambda: self._asked > self._done or self._ended, _SECONDS)
                asked, ended = self._asked, self._ended
            if ended and asked == self._done:
                return
            self._put()
            with self._due:
                self._done = asked
                self._due.notify_all()

    def _put(self) -> None:
        if not self.writes:
            return
        with self._lock:
            self._update(seconds=self._seconds())
            status = self.status
        try:
            self.runs.write(status)
        except StoreError as error:
            log.warning("status not written", error=str(error))
        if time.monotonic() - self._logged_at >= _LOG_SECONDS:
            self._write_log()

    def _write_log(self) -> None:
        self._logged_at = time.monotonic()
        if self._lines is not None:
            self._lines.write()

    def _seconds(self) -> dict[str, float]:
        stage = self.status.stage
        if not stage:
            return self._settled
        spent = self._settled.get(stage, 0.0) + time.monotonic() - self._since
        return self._settled | {stage: round(spent, 3)}

    def _update(self, **changes: object) -> None:
        with self._lock:
            self.status = replace(self.status, updated_at=time.time(), **changes)  # type: ignore[arg-type]  # fields of RunStatus by name


def first_status(runs: Runs, run: str) -> RunStatus:
    """The status that this process begins with: one attempt more than the last process's, its versions kept.

    A launcher of children has written this attempt into launch.json; the leader of a cluster learns of it later. Whoever
    was late, no two processes of a run have one number, and so none writes into another's checkpoints.
    """
    last = runs.status(run)
    kept = [int(name) for name in runs.store.folders(f"runs/{run}/checkpoints/") if name.isdigit()]
    known = max(kept + ([last.attempt] if last else []), default=0)
    attempt = max(known + 1, _launched(runs.launch(run)))
    return RunStatus(run, RunState.RUNNING, attempt=attempt, published=last.published if last else ())


def _launched(launch: Launch | None) -> int:
    """The number of the process that the launcher means: its newest attempt, or one more where that has ended."""
    if launch is None or not launch.attempts:
        return 1
    newest = launch.attempts[-1]
    return newest.number if newest.ended_at is None else newest.number + 1


def _open_bar() -> Bar:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    bar = RichProgress(console=Console(stderr=True), transient=True)
    bar.add_task("starting", total=None)
    bar.start()
    return bar
