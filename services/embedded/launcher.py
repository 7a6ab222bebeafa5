"""The Launcher port over child processes: `python -P child.py … services.trainer --run <store>/runs/<run>`.

Each run has a thread that starts its process, waits for the end and decides what follows: exit 0 is DONE; 75 and death by a
signal are retried after 5, 30 and 120 s, then FAILED; any other code is FAILED at once. Only this module writes launch.json.
An attempt that this process ended itself, or whose end it missed because it died, has no exit code and is not counted as a
failure. After a run's end its status.json may be stale: the outcome in launch.json is authoritative.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path

import structlog

from services.core.domain import Attempt, LaunchState, RunRequest, RunState
from services.core.errors import Preempted, StoreError
from services.core.runs import Runs
from services.core.store import ObjectStore
from services.embedded.process import TrainerProcess

RETRY_DELAYS = (5.0, 30.0, 120.0)
"""Seconds before the second, third and fourth attempt."""
LOG_LINES = 200
"""Lines of a run's log that are kept."""
LOG_SECONDS = 1.0
"""Seconds between two writes of log.txt."""
_EXIT_NOT_STARTED = 71

log = structlog.get_logger()


class StopReason(Enum):
    """Why this process ends a trainer."""

    CANCEL = "cancel"
    CLOSE = "close"


def next_step(
    attempts: Sequence[Attempt], stop_reason: StopReason | None, delays: Sequence[float] = RETRY_DELAYS
) -> RunState | float | None:
    """Return what follows the last attempt: a final state, the seconds until a retry, or None: resumed at the next launch."""
    codes = [attempt.exit_code for attempt in attempts if attempt.exit_code is not None]
    last = attempts[-1].exit_code if attempts else None
    if stop_reason is StopReason.CANCEL:
        return RunState.CANCELLED
    if last == 0:
        return RunState.DONE
    if last is not None and not _is_retryable(last):
        return RunState.FAILED
    if stop_reason is StopReason.CLOSE:
        return None
    failures = sum(_is_retryable(code) for code in codes)
    if last is None or failures == 0:
        return 0.0
    return delays[failures - 1] if failures <= len(delays) else RunState.FAILED


def _is_retryable(code: int) -> bool:
    """Return whether a retry may succeed."""
    return code < 0 or code == Preempted.exit_code


class _Run:
    """An active run and its thread."""

    def __init__(self, launcher: ChildLauncher, run: str, known: LaunchState) -> None:
        self.name = run
        self.launch = known
        self._launcher = launcher
        self._lock = threading.Lock()
        self._stop_reason: StopReason | None = None
        self._stop_requested = threading.Event()
        self._process: TrainerProcess | None = None
        self._lines = deque(launcher.runs.log(run).splitlines(), maxlen=LOG_LINES)
        self._unwritten = False
        self._written_at = 0.0
        self.thread = threading.Thread(target=self._work, name=f"run {run}", daemon=True)

    def request_stop(self, reason: StopReason) -> None:
        """Terminate the process, or prevent its start. A cancelled run stays cancelled."""
        with self._lock:
            self._stop_reason = self._stop_reason if self._stop_reason is StopReason.CANCEL else reason
            self._stop_requested.set()
            if self._process:
                self._process.terminate()

    def kill(self) -> None:
        with self._lock:
            if self._process:
                self._process.kill()

    def _work(self) -> None:
        follows: RunState | float | None = 0.0
        while isinstance(follows, float):
            self._stop_requested.wait(follows)
            self._attempt()
            follows = next_step(self.launch.attempts, self._stop_reason, self._launcher.delays)
            codes = [attempt.exit_code for attempt in self.launch.attempts]
            log.info("trainer_exited", run=self.name, exit_codes=codes, follows=follows)
        self._launcher.finish(self, replace(self.launch, outcome=follows))

    def _attempt(self) -> None:
        started = time.time()
        with self._lock:
            if self._stop_requested.is_set():
                return
            number = self.launch.attempts[-1].number + 1 if self.launch.attempts else 1
            self._record(Attempt(number, started))
            try:
                self._process = self._launcher.start_process(self.name, self._append_lines)
            except OSError as error:
                self._append_lines([f"The trainer could not be started: {error}."])
        code = self._process.wait() if self._process else _EXIT_NOT_STARTED
        with self._lock:
            self._process = None
            ours = self._stop_requested.is_set() and _is_retryable(code)
        self._write_log()
        self._record(Attempt(number, started, time.time(), None if ours else code))

    def _record(self, attempt: Attempt) -> None:
        others = tuple(known for known in self.launch.attempts if known.number != attempt.number)
        launch = replace(self.launch, attempts=(*others, attempt))
        self._launcher.write(launch)
        self.launch = launch
        self._launcher.on_change(self.name)

    def _append_lines(self, lines: list[str]) -> None:
        for line in lines:
            log.debug("trainer_output", run=self.name, line=line)
        if lines:
            self._launcher.on_change(self.name)  # it may have published a version
        self._lines.extend(lines)
        self._unwritten = self._unwritten or bool(lines)
        if self._unwritten and time.monotonic() - self._written_at >= LOG_SECONDS:
            self._write_log()

    def _write_log(self) -> None:
        self._unwritten, self._written_at = False, time.monotonic()
        text = "".join(f"{line}\n" for line in self._lines)
        try:
            self._launcher.runs.store.write(f"runs/{self.name}/log.txt", text.encode())
        except StoreError as error:
            log.warning("run_log_not_written", run=self.name, reason=str(error))


class ChildLauncher:
    """Runs trainers as children of this process."""

    def __init__(
        self,
        store: ObjectStore,
        locks: Path,
        on_change: Callable[[str], None],
        *,
        program: str = "services.trainer",
        delays: Sequence[float] = RETRY_DELAYS,
        cancel_seconds: float = 10.0,
        close_seconds: float = 15.0,
    ) -> None:
        """`locks`: a local folder for one lock file per run. `on_change`: called with a run from threads, after each start and end, and as it reports something."""
        self.runs = Runs(store)
        self.delays = tuple(delays)
        self._locks = locks
        self.on_change = on_change
        self._program = program
        self._cancel_seconds = cancel_seconds
        self._close_seconds = close_seconds
        self._active: dict[str, _Run] = {}
        self._closed = False
        self._lock = threading.Lock()

    def launch(self, request: RunRequest) -> None:
        """Start the run's process, unless it is active, has an outcome, or the launcher is closed."""
        with self._lock:
            known = self.runs.launch_state(request.run) or LaunchState(request.run)
            if self._closed or request.run in self._active or known.outcome is not None:
                return
            run = _Run(self, request.run, known)
            self._active[request.run] = run
            run.thread.start()

    def cancel(self, run: str) -> None:
        """Cancel the run: SIGTERM, and SIGKILL 10 s later. Returns at once; `on_change` is called at the end."""
        with self._lock:
            active = self._active.get(run)
            known = self.runs.launch_state(run) or LaunchState(run)
        if active:
            active.request_stop(StopReason.CANCEL)
            timer = threading.Timer(self._cancel_seconds, active.kill)
            timer.daemon = True
            timer.start()
        elif known.outcome is None:
            self.write(replace(known, outcome=RunState.CANCELLED))
            self.on_change(run)

    def observe(self, run: str) -> LaunchState | None:
        """Return the run's attempts and outcome."""
        with self._lock:
            active = self._active.get(run)
        return active.launch if active else self.runs.launch_state(run)

    def close(self) -> None:
        """Send SIGTERM to all trainers, and SIGKILL 15 s later."""
        with self._lock:
            self._closed = True
            active = list(self._active.values())
        for run in active:
            run.request_stop(StopReason.CLOSE)
        deadline = time.monotonic() + self._close_seconds
        for run in active:
            run.thread.join(max(0.0, deadline - time.monotonic()))
            run.kill()
            run.thread.join()

    def start_process(self, run: str, on_lines: Callable[[list[str]], None]) -> TrainerProcess:
        """Start a process for the run. Raises OSError."""
        arguments = ("--run", f"{self.runs.store.url}/runs/{run}")
        return TrainerProcess(self._locks / f"{run}.lock", self._program, arguments, on_lines)

    def write(self, launch: LaunchState) -> bool:
        """Write launch.json and return whether that worked. A full disk is logged: the run continues."""
        try:
            self.runs.write(launch)
        except StoreError as error:
            log.error("launch_not_written", run=launch.run, reason=str(error))
            return False
        return True

    def finish(self, run: _Run, launch: LaunchState) -> None:
        """End the run. An outcome that could not be written is kept in memory, or the run would start again."""
        if launch.outcome is not None:
            (self._locks / f"{run.name}.lock").unlink(missing_ok=True)
        written = self.write(launch)
        with self._lock:
            run.launch = launch
            if written:
                self._active.pop(run.name, None)
        self.on_change(run.name)
