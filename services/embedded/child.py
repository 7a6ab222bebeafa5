"""What a trainer's process runs first: it ends with its parent, is polite, and is the only one at work on its run.

    python -P child.py LOCK PROGRAM [ARGUMENT ...]

PROGRAM is a module or a path that ends in `.py`. Standard input is a pipe whose other end the parent alone holds: at its
end, however the parent died, the process gets SIGTERM, and 15 s later it is over. A pipe rather than PR_SET_PDEATHSIG,
because that one fires when the parent's *thread* ends, and macOS does not have it. LOCK is a file: whoever still holds it,
a trainer whose parent was killed a moment ago, is waited for. Nothing of ours is imported: this file starts alone.
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
    """Take the lock, then become PROGRAM."""
    lock, program, *arguments = sys.argv[1:]
    root = str(Path(__file__).resolve().parents[2])
    if root not in sys.path:
        sys.path.insert(0, root)  # a checkout that is not installed
    os.nice(NICE)
    threading.Thread(target=_watch_parent, name="parent", daemon=True).start()
    held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    fcntl.flock(held, fcntl.LOCK_EX)  # until the process ends
    sys.argv = [program, *arguments]
    if program.endswith(".py"):
        runpy.run_path(program, run_name="__main__")
    else:
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
