"""What the system says of a process: its memory, and how it ended."""

from __future__ import annotations

import os
import signal
from pathlib import Path


def how_it_ended(code: int | None) -> str:
    """Say how a process ended, from its exit code, which is minus the signal's number if a signal ended it."""
    if code is None:
        return "has ended"
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    why = ": perhaps there was too little memory" if name == "SIGKILL" else ""
    return f"was ended by {name}{why}"


def resident_bytes(pid: int | None) -> int:
    """Return the resident memory of a process; 0 if the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
