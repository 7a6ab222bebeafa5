"""status.json of a run: what it does now, how far it is, how long it took so far.

A thread writes it about every second, so that a long stage cannot look like a dead process; every change of stage and the
end are written at once. A write that fails is logged and tried again a second later: a run does not die of its status.
On a terminal the same is shown as a progress bar.
"""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Self

import structlog

from services.core.domain import Published, RunState, RunStatus
from services.core.errors import StoreError
from services.core.runs import Runs

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_SECONDS = 1.0
log = structlog.get_logger()


@dataclass
class Progress:
    """The only writer of a run's status.json. Use as a context manager; `finish` before the end."""

    runs: Runs
    status: RunStatus
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _ended: threading.Event = field(default_factory=threading.Event)
    _since: float = field(default_factory=time.monotonic)
    _settled: dict[str, float] = field(default_factory=dict)
    _resumed_at: int = 0
    _bar: Bar | None = None

    def __enter__(self) -> Self:
        """Write the first status and go on writing."""
        self._update(state=RunState.RUNNING)
        self._write()
        if sys.stderr.isatty():
            self._bar = _open_bar()
        self._thread = threading.Thread(target=self._tick, name="status", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop writing."""
        self._ended.set()
        self._thread.join()
        if self._bar is not None:
            self._bar.stop()

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
        self._write()

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
        self._write()

    def published(self, version: Published) -> None:
        """A version exists now."""
        self._update(published=(*self.status.published, version), message=version.sentence)
        self._write()

    def finish(self, state: RunState, exit_code: int, message: str | None = None) -> None:
        """The last status of this process, which the store must take: raises StoreError."""
        self._ended.set()
        with self._lock:
            kept = self.status.message if message is None else message
            self._update(
                state=state, exit_code=exit_code, message=kept, seconds=self._seconds(), seconds_left=None
            )
            self.runs.write(self.status)

    def _tick(self) -> None:
        while not self._ended.wait(_SECONDS):
            self._write()

    def _write(self) -> None:
        with self._lock:
            if self._ended.is_set():
                return
            self._update(seconds=self._seconds())
            try:
                self.runs.write(self.status)
            except StoreError as error:
                log.warning("status not written", error=str(error))

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
    """The status that this process begins with: one attempt more than the last process's, its versions kept."""
    last = runs.status(run)
    launch = runs.launch(run)
    launched = launch.attempts[-1].number if launch and launch.attempts else 1
    if last is None:
        return RunStatus(run, RunState.RUNNING, attempt=launched)
    attempt = max(last.attempt + 1, launched)
    return RunStatus(run, RunState.RUNNING, attempt=attempt, published=last.published)


def _open_bar() -> Bar:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    bar = RichProgress(console=Console(stderr=True), transient=True)
    bar.add_task("starting", total=None)
    bar.start()
    return bar
