"""Start a trainer process, read its output, end it; `services.embedded.launcher` decides when.

Output is passed on line by line, and so is a second of silence, so that the log can be written without waiting for the next
line.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO

from services.core.settings import AuthSettings, ClusterSettings, variables

_CHILD = Path(__file__).with_name("child.py")
_HIDDEN_FROM_TRAINERS = frozenset(
    {
        *(variable for name in AuthSettings.model_fields for variable in variables(AuthSettings, name)),
        *(
            variable
            for name in ("predictor_token", "predictor_token_from")
            for variable in variables(ClusterSettings, name)
        ),
    }
)
_MAX_LINE = 2_000
"""Characters of a line that are kept."""


class TrainerProcess:
    """A running child. `on_lines` is called from a thread of this object, with [] after a second of silence."""

    def __init__(
        self, lock: Path, program: str, arguments: Sequence[str], on_lines: Callable[[list[str]], None]
    ) -> None:
        """Start the process. Raises OSError."""
        lock.parent.mkdir(parents=True, exist_ok=True)
        self._popen = subprocess.Popen(  # noqa: S603  # our own program, no shell
            [sys.executable, "-P", str(_CHILD), str(lock), program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=trainer_environment(os.environ),
            start_new_session=True,  # Ctrl-C is for the parent, which then sends SIGTERM
        )
        self._ended = threading.Event()
        self._on_lines = on_lines
        self._reader = threading.Thread(target=self._read, name=f"log of {self._popen.pid}", daemon=True)
        self._reader.start()

    def wait(self) -> int:
        """Wait for the end and the last line; return the exit code, or minus the signal."""
        code = self._popen.wait()
        self._ended.set()
        self._reader.join()
        if self._popen.stdin:
            self._popen.stdin.close()
        return code

    def terminate(self) -> None:
        """Send SIGTERM: the trainer saves a checkpoint and exits."""
        self._popen.terminate()

    def kill(self) -> None:
        """Kill the process and its children."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)

    def _read(self) -> None:
        """Read until the pipe ends, or the process has and the pipe is empty: a grandchild may keep it open."""
        stdout: IO[bytes] | None = self._popen.stdout
        if stdout is None:
            return
        rest = b""
        with stdout, selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            while True:
                ended = self._ended.is_set()
                if selector.select(0 if ended else 1.0):
                    chunk = os.read(stdout.fileno(), 1 << 16)
                    *lines, rest = (rest + chunk).split(b"\n")
                    self._on_lines([_text(line) for line in lines])
                    if not chunk:
                        break
                elif ended:
                    break
                else:
                    self._on_lines([])
        if rest:
            self._on_lines([_text(rest)])


def trainer_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return `own` without the credentials of adapter and predictors: a trainer needs Label Studio and the bucket only."""
    kept = {name: value for name, value in own.items() if name.upper() not in _HIDDEN_FROM_TRAINERS}
    return {**kept, "PYTHONUNBUFFERED": "1"}


def _text(line: bytes) -> str:
    """Return a line as a terminal shows it: of a progress bar, the last state."""
    return line.decode("utf-8", "replace").rstrip("\r").rpartition("\r")[2][:_MAX_LINE]
