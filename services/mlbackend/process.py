"""Start the process of a model class, call its methods with a deadline, and end it with everything that it started.

One call at a time. Whatever goes wrong is a ModelClassError with one sentence: the class, what it did, and the last line of its
traceback without secrets. After a missed deadline, too much memory or a crash the process is gone; `alive` says so.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from services.core.errors import ModelClassError
from services.core.redaction import redact
from services.mlbackend.channel import Channel, Gone, Missed
from services.mlbackend.environment import worker_environment
from services.mlbackend.model_class import ModelClass, WorkerSettings
from services.mlbackend.process_state import how_it_ended, resident_bytes

_WORKER: Final = Path(__file__).with_name("worker.py")
_END_SECONDS: Final = 10.0
_STAGES: Final = {
    "import": "cannot be imported",
    "setup": "failed when it was built (`setup`)",
    "predict": "failed in `predict`",
    "fit": "failed in `fit`",
}


@dataclass(frozen=True, slots=True)
class Answers:
    """What `predict` answered."""

    predictions: tuple[tuple[dict[str, Any], ...], ...]
    """For each task its predictions, in order: none, one, or several; `result` and, if the class gave one, `score`."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason → regions, predictions or scores that do not fit the label config."""


class WorkerProcess:
    """The process of one class. A context manager: it is started on entry and ended on exit."""

    def __init__(
        self, spec: ModelClass, model_dir: Path, settings: WorkerSettings, *, is_temporary: bool = False
    ) -> None:
        """`model_dir` is the class's MODEL_DIR: it exists, and the class may write into it.

        `is_temporary`: it is to be deleted if this process is killed, which else would delete it.
        """
        self.spec = spec
        self.has_fit = False
        """Whether the class has a `fit` of its own; known once it was started."""
        self.ended_by = ""
        """Why the process is gone: `deadline`, `memory` or `crash`; "" while it runs, and after `close`."""
        self._model_dir = model_dir
        self._is_temporary = is_temporary
        self.settings = settings
        self._popen: subprocess.Popen[bytes] | None = None
        self._channel: Channel | None = None
        self._scratch: Path | None = None

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()

    @property
    def alive(self) -> bool:
        """Whether the process can be called."""
        return self._channel is not None and self._popen is not None and self._popen.poll() is None

    @property
    def pid(self) -> int | None:
        """Its process id, which is also that of its process group."""
        return self._popen.pid if self._popen else None

    def start(self) -> None:
        """Start the process; return once the class is imported and built. Raises ModelClassError."""
        self._scratch = Path(tempfile.mkdtemp(prefix="fitloop-model-"))
        ours, theirs = socket.socketpair()
        folders = [self._scratch, *([self._model_dir] if self._is_temporary else [])]
        environment = worker_environment(os.environ, self.settings, self._model_dir, self._scratch)
        with theirs:
            self._popen = subprocess.Popen(  # noqa: S603  # our own program, no shell
                [sys.executable, "-P", str(_WORKER), str(theirs.fileno()), *map(str, folders)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                env=environment,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._channel = Channel(ours)
        start = {
            "model": self.spec.model,
            "project_id": self.spec.project_id,
            "label_config": self.spec.label_config,
        }
        try:
            answer = self._call(start, self.settings.start_seconds, "was not ready")
        except BaseException:
            self.close()
            raise
        self.has_fit = bool(answer["has_fit"])

    def predict(
        self,
        tasks: Sequence[Mapping[str, Any]],
        context: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        label_config: str | None = None,
    ) -> Answers:
        """Return the class's predictions of these tasks. Raises ModelClassError.

        `params` are further arguments of `predict`. `seconds`: the deadline, else that of the settings. `label_config`: the
        project's, if it may differ from the one at the start.
        """
        call = {
            "call": "predict",
            "tasks": list(tasks),
            "context": context,
            "params": dict(params or {}),
            "label_config": label_config,
        }
        answer = self._call(call, seconds or self.settings.predict_seconds, "did not answer")
        return Answers(tuple(map(tuple, answer["predictions"])), answer["dropped"])

    def fit(
        self,
        event: str,
        data: Mapping[str, Any],
        parameters: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Mapping[str, Any] | None:
        """Return what `fit` returned if that is a JSON object, else None. Raises ModelClassError.

        `on_wait` is called some times a second meanwhile; what it raises ends the process. `seconds` None: no deadline.
        """
        call = {"call": "fit", "event": event, "data": data, "parameters": dict(parameters or {})}
        found: Mapping[str, Any] | None = self._call(call, seconds, "did not finish `fit`", on_wait)["result"]
        return found

    def close(self) -> None:
        """End the process and its children, and delete its home. May be called from another thread, and again."""
        popen, channel = self._popen, self._channel
        self._channel = None
        if popen is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(popen.pid, signal.SIGKILL)
            popen.wait()
            if popen.stdin:
                popen.stdin.close()
        if channel is not None:
            channel.close()
        if self._scratch is not None:
            shutil.rmtree(self._scratch, ignore_errors=True)

    def _call(
        self,
        message: Mapping[str, Any],
        seconds: float | None,
        failure: str,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Any:
        """Send a message and return its answer. The process is ended if there is none."""
        channel = self._channel
        if channel is None or not self.alive:
            raise self._ended()
        until = None if seconds is None else time.monotonic() + seconds
        try:
            answer = channel.ask(message, lambda: self._wait(until, on_wait))
        except Missed:
            self.ended_by = "deadline"
            self.close()
            raise ModelClassError(
                f"{self.spec.model} {failure} within {seconds:g} s; its process was ended."
            ) from None
        except Gone as error:
            raise self._ended() from error
        except BaseException:
            self.close()
            raise
        if "error" in answer:
            raise ModelClassError(self._sentence(answer["error"]))
        return answer

    def _wait(self, until: float | None, on_wait: Callable[[], None]) -> None:
        """Look after a running call."""
        self._check_memory()
        if not self.alive:
            raise Gone  # a child of the process may keep the connection open
        if until is not None and time.monotonic() >= until:
            raise Missed
        on_wait()

    def _check_memory(self) -> None:
        limit, used = self.settings.memory_mb * 1e6, resident_bytes(self.pid)
        if limit and used > limit:
            self.ended_by = "memory"
            self.close()
            raise ModelClassError(
                f"{self.spec.model} used {used / 1e6:.0f} MB of memory, more than the limit of {limit / 1e6:.0f} MB; "
                "its process was ended."
            )

    def _sentence(self, error: Mapping[str, str]) -> str:
        line = redact(error["line"], self.settings.label_studio_api_key).rstrip(". ")
        place = f" ({error['place']})" if error["place"] else ""
        return f"{self.spec.model} {_STAGES[error['stage']]}: {line}{place}."

    def _ended(self) -> ModelClassError:
        """Say how the process ended by itself; end what is left of it."""
        self.ended_by = self.ended_by or "crash"
        popen = self._popen
        if popen is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                popen.wait(_END_SECONDS)
        code = popen.poll() if popen is not None else None
        self.close()
        return ModelClassError(f"The process of {self.spec.model} {how_it_ended(code)}.")
