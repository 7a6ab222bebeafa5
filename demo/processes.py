"""Servers as child processes: started, awaited with progress, and stopped whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx


class DemoError(Exception):
    """The demo cannot continue; the message says what to do."""


def free_port(preferred: int) -> int:
    """Return `preferred` if it is free, or else any free port (Label Studio would silently take the next one)."""
    for port in (preferred, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise DemoError("No free port on 127.0.0.1.")


@dataclass
class Server:
    """A child process that answers `health` once it is up. Its output goes to `log`."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str]
    health: str
    log: Path
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; `wait` returns once it serves."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(  # noqa: S603 - our own command lines
                self.command,
                env={**os.environ, **self.environment},
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # so that Ctrl-C reaches only this process, which stops it in order
            )

    def wait(self, seconds: float, tick: Callable[[float], None] = lambda _: None) -> None:
        """Wait until /health answers 200. Raises DemoError with the end of the log."""
        begun = time.monotonic()
        while (passed := time.monotonic() - begun) < seconds:
            if self.process is None or self.process.poll() is not None:
                raise DemoError(f"{self.name} exited during startup. The end of {self.log}:\n{self.tail()}")
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(self.health, timeout=2).status_code == httpx.codes.OK:
                    return
            tick(passed)
            time.sleep(0.3)
        raise DemoError(
            f"{self.name} did not start within {seconds:.0f} s. The end of {self.log}:\n{self.tail()}"
        )

    def stop(self, seconds: float = 30) -> int | None:
        """Send SIGTERM, then SIGKILL. Return the exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(seconds)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.process.returncode

    def kill(self) -> None:
        """Send SIGKILL to the process and all others of its session."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def tail(self, lines: int = 15) -> str:
        """Return the last lines of its output."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-lines:])
