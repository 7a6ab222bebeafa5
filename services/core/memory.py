"""The memory that this process may use: its control group's limit, or else the machine's."""

from __future__ import annotations

import os
from pathlib import Path

_V2, _V1 = "memory.max", "memory/memory.limit_in_bytes"


def memory_limit(cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """In bytes. Version 1 of control groups says no limit as a number larger than any machine."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name in (_V2, _V1):
        try:
            said = (cgroup / name).read_text().strip()
        except OSError:
            continue
        if said.isdigit() and int(said) > 0:
            return min(int(said), machine)
    return machine
