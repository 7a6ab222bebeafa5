"""The first code of a trainer's process: end with the parent, run niced, and be the only process of the run.

    python -P child.py LOCK PROGRAM [ARGUMENT ...]

PROGRAM is a module or a path that ends in `.py`. Standard input is a pipe whose other end only the parent holds: at its end,
however the parent died, the process gets SIGTERM, and exits 15 s later at the latest. A pipe rather than PR_SET_PDEATHSIG,
which fires when the parent's *thread* ends and does not exist on macOS. LOCK is a file: a trainer that still holds it, whose
parent was killed a moment ago, is waited for. This file imports nothing of `services`: it starts alone.
"""

from __future__ import annotations

import fcntl
import os
import runpy
import signal
import sys
import threading
from pathlib import Path

NICE = 10
GRACE_SECONDS = 15.0
EXIT_RETRY = 75


def _watch_parent() -> None:
    while os.read(0, 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(GRACE_SECONDS)
    os._exit(EXIT_RETRY)


def main() -> None:
    """Take the lock, then run PROGRAM in this process."""
    lock, program, *arguments = sys.argv[1:]
    root = str(Path(__file__).resolve().parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)  # a checkout that is not installed
    os.nice(NICE)
    threading.Thread(target=_watch_parent, name="parent", daemon=True).start()
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(handle, fcntl.LOCK_EX)  # until the process ends
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
