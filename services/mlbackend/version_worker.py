"""One served version of a model class: its folder, its process, and the thread that alone uses both.

Calls wait for each other. A process that is gone is replaced at once; if that fails, or it dies again before it has answered, the
next start waits, longer each time, and calls meanwhile fail with the same sentence.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final, TypeVar

import structlog

from services.core.errors import FitloopError, ModelClassError, Overloaded
from services.core.redaction import safe_reason
from services.core.retry import Backoff, LogOnce
from services.core.telemetry.correlation import log_ids
from services.core.telemetry.logs import safe_traceback
from services.mlbackend import metrics
from services.mlbackend.calls import PredictCall
from services.mlbackend.process import Answers, WorkerProcess
from services.mlbackend.warm_up import warm_up_task

log = structlog.get_logger()
MAX_WAITING: Final = 32
"""Calls of one version that may wait."""
_T = TypeVar("_T")
Open = Callable[[Path], WorkerProcess]
"""Writes a version's files into the folder, and returns the process, not started yet. Raises FitloopError."""


class VersionWorker:
    """Calls one version's class. Thread-safe."""

    def __init__(self, key: tuple[str, str], opened: Open, wait_seconds: float) -> None:
        """`wait_seconds`: a call that waited longer is not made."""
        self.key = key
        self.is_ready = False
        """Whether it was warmed up once, and no start has failed since."""
        self.error: FitloopError | None = None
        """Why the last start failed; None if it did not."""
        self.failed_at = 0.0
        self.used_at = time.monotonic()
        self._open = opened
        self._wait_seconds = wait_seconds
        self._folder: Path | None = None
        self._process: WorkerProcess | None = None
        self._backoff = Backoff()
        self._death: ModelClassError | None = None
        """What ended the process before it, if none has answered since."""
        self._dropped = LogOnce()
        self._loading: Future[None] | None = None
        self._jobs = 0
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model-class")

    @property
    def is_busy(self) -> bool:
        """Whether a call or a start is in progress or waits."""
        return self._jobs > 0

    @property
    def pid(self) -> int | None:
        """Its process; None if there is none."""
        process = self._process
        return process.pid if process and process.alive else None

    def load(self) -> Future[None]:
        """Start and warm up the process, unless it runs or is being started; ignores the back-off."""
        if self._loading is None or self._loading.done():
            self._loading = self._submit(self._load)
        return self._loading

    def predict(self, call: PredictCall) -> Future[Answers]:
        """Call `predict`. The future raises ModelClassError, StoreError, Overloaded. Raises Overloaded if too many calls wait."""
        if self._jobs > MAX_WAITING:
            raise Overloaded(f"{self._jobs} calls of version {self.key[1]} wait: try again in a moment.")
        until = time.monotonic() + self._wait_seconds
        return self._submit(lambda: self._predict(call, until))

    def close(self, reason: str = "") -> None:
        """End the process, also in the middle of a call, and delete the folder."""
        self._closed.set()
        self._thread.shutdown(wait=False, cancel_futures=True)
        if process := self._process:
            if reason and process.alive:
                metrics.count_end(reason)
            process.close()
        self._thread.shutdown()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _submit(self, work: Callable[[], _T]) -> Future[_T]:
        self.used_at = time.monotonic()
        with self._lock:
            self._jobs += 1
        try:
            future = self._thread.submit(work)
        except RuntimeError as error:
            self._done()
            raise Overloaded(f"Version {self.key[1]} is being unloaded: try again in a moment.") from error
        future.add_done_callback(lambda _: self._done())
        return future

    def _done(self) -> None:
        with self._lock:
            self._jobs -= 1

    def _load(self) -> None:
        self._ensure(at_once=True)

    def _predict(self, call: PredictCall, until: float) -> Answers:
        if time.monotonic() > until:
            raise Overloaded(f"Version {self.key[1]} is too busy: calls waited {self._wait_seconds:g} s.")
        process = self._ensure()
        began = time.perf_counter()
        try:
            answers = process.predict(call.tasks, call.context, call.params, label_config=call.label_config)
        except ModelClassError as error:
            metrics.count_call(time.perf_counter() - began, answered=False)
            if not process.alive:
                self._replace(process, error)
            raise
        metrics.count_call(time.perf_counter() - began, answered=True)
        self._death = None
        self._backoff.succeeded()
        self._note_dropped(answers)
        return answers

    def _replace(self, process: WorkerProcess, error: ModelClassError) -> None:
        """Have another process started: at once, if this one had answered before."""
        if self._closed.is_set():
            return
        self._note_end(process, str(error))
        if self._death:
            self._backoff.failed(time.monotonic())
        self._death = error
        self._submit(self._revive)

    def _revive(self) -> None:
        try:
            self._ensure()
        except FitloopError as error:
            log.warning("model_worker_not_started", **log_ids(*self.key), reason=str(error))
        except Exception as error:  # noqa: BLE001  # nobody reads the result of this
            log.error("model_worker_error", **log_ids(*self.key), frames=safe_traceback(error))

    def _ensure(self, *, at_once: bool = False) -> WorkerProcess:
        """Return the process, started if it is gone. Raises ModelClassError, StoreError."""
        if (process := self._process) and process.alive:
            return process
        if process:
            self._note_end(process, "it ended between two calls")
        known = self.error or self._death
        if known and not at_once and time.monotonic() < self._backoff.until:
            raise type(known)(str(known))
        try:
            process = self._start_or_say_why()
        except FitloopError as error:
            self._process = None
            self.error, self.failed_at, self.is_ready = error, time.monotonic(), False
            self._backoff.failed(time.monotonic())
            metrics.count_start(started=False)
            raise
        self.error, self.is_ready = None, True
        metrics.count_start(started=True)
        return process

    def _start_or_say_why(self) -> WorkerProcess:
        try:
            return self._start()
        except OSError as error:  # no space left, no further process
            raise ModelClassError(
                f"The process of version {self.key[1]} could not be started: {safe_reason(error)}."
            ) from error

    def _start(self) -> WorkerProcess:
        """Start a process over a fresh folder, and warm it up."""
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = Path(tempfile.mkdtemp(prefix="fitloop-version-"))
        process = self._process = self._open(self._folder)
        if self._closed.is_set():
            raise Overloaded(f"Version {self.key[1]} is being unloaded: try again in a moment.")
        process.start()
        if task := warm_up_task(process.spec.label_config):
            try:
                process.predict([task], seconds=process.settings.start_seconds)
            except BaseException:
                process.close()
                raise
        return process

    def _note_end(self, process: WorkerProcess, reason: str) -> None:
        self._process = None
        metrics.count_end(process.ended_by or "crash")
        log.warning("model_worker_ended", **log_ids(*self.key), reason=reason)
        process.close()

    def _note_dropped(self, answers: Answers) -> None:
        metrics.count_dropped(answers.dropped)
        if answers.dropped and self._dropped.is_new(",".join(sorted(answers.dropped))):
            log.warning("model_results_dropped", **log_ids(*self.key), **answers.dropped)
