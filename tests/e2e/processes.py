"""Processes of pods and of cluster components on this machine, to be suspended or killed."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest


def pod_process(pod: str) -> int:
    """Return the pid of a pod's first process. Skips the test if pods run on another machine."""
    wanted = f"HOSTNAME={pod}".encode()
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and wanted in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
    if not found:
        pytest.skip(f"no process of pod {pod} is to be seen here: the cluster runs on another machine")
    return min(found)


@contextlib.contextmanager
def suspended(pid: int) -> Iterator[None]:
    """Suspend a process with SIGSTOP until the end of the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def cluster_process(name: str) -> int:
    """Return the pid of a cluster component from FITLOOP_TEST_PIDS. Skips the test if it is unknown."""
    folder = os.environ.get("FITLOOP_TEST_PIDS")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"FITLOOP_TEST_PIDS names no process {name}")
    return int((Path(folder) / name).read_text())
