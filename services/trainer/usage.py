"""What this process takes up: memory and its GPU, for the run's status. The pod is short-lived, so nobody scrapes it.

Asking costs microseconds on a CPU and about a millisecond on a GPU, and never begins to use one. A figure that the machine
does not give is None and worth no failure. Of a run of several processes these are rank 0's.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_STATM = Path("/proc/self/statm")


@dataclass(frozen=True, slots=True)
class Usage:
    """Fields of RunStatus, by the same names."""

    resident_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    gpu_memory_limit_bytes: int | None = None
    gpu_utilization: float | None = None


def measure_usage() -> Usage:
    """As things stand."""
    cuda = _cuda()
    if cuda is None:
        return Usage(_resident_bytes())
    used, limit = _gpu_memory(cuda)
    return Usage(_resident_bytes(), used, limit, _gpu_utilization(cuda))


def _resident_bytes(statm: Path = _STATM) -> int | None:
    """Linux says it; elsewhere only the greatest so far is known, which would look like a leak."""
    try:
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _cuda() -> Any | None:
    """torch.cuda once this process computes on a GPU; neither torch nor the GPU is touched before."""
    cuda = sys.modules.get("torch.cuda")
    begun = getattr(cuda, "is_initialized", None)
    return cuda if begun is not None and begun() else None


def _device() -> int:
    """The GPU of this process: each thread would begin to use the first one otherwise."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _gpu_memory(cuda: Any) -> tuple[int | None, int | None]:
    """What is taken of the device, by whomever, and what it has; of a slice of one, the slice's."""
    try:
        free, there = cuda.mem_get_info(_device())
    except RuntimeError:  # the GPU has failed: the run says so itself
        return None, None
    return there - free, there


def _gpu_utilization(cuda: Any) -> float | None:
    try:
        return float(cuda.utilization(_device())) / 100
    except Exception:  # noqa: BLE001  # NVML's own errors: it is not installed, or a slice of a GPU has no such figure
        return None
