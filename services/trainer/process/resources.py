"""What this process takes up: memory and its GPU, for the run's status. The pod is short-lived, so nobody scrapes it.

Asking costs microseconds on a CPU and about a millisecond on a GPU, and never begins to use one. A figure that the machine
does not give is None and worth no failure. Of a run of several processes these are rank 0's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.core.errors import BadConfig, StoreError
from services.core.settings.training import available_cores

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


def limit_threads_to_cgroup() -> None:
    """Before torch is imported: a thread for each core of the machine would be throttled in a container with a few."""
    # Threads that sleep while they wait leave busy cores to others, and cost nothing on idle ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if available_cores() < there:
        os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))


def check_gpus(wanted: int) -> None:
    """Raises BadConfig, before anything is read, where fewer CUDA devices are there than were promised."""
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found >= wanted:
        return
    promised = "a GPU" if wanted == 1 else f"{wanted} GPUs"
    there = "none" if found == 0 else f"only {found}"
    raise BadConfig(
        f"This Job was promised {promised} and finds {there}: {_why(found)}. Correct that, or set trainer.allowCpu=true "
        "to train on CPU (outside a cluster: FITLOOP_REQUIRE_GPU=false)."
    )


def _why(found: int) -> str:
    import torch

    if found:
        return "ask for more of them, or for fewer processes"
    if torch.version.cuda is None:
        return "this image's torch was built for CPUs alone"
    return "its pod got no nvidia.com/gpu, or the node's driver or container runtime does not hand it on"


_PREFIX = "fitloop-trainer-"

_LOCK = "lock"


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder in which this process's temporary files are made from now on, and which goes at the end. Raises StoreError."""
    before = tempfile.tempdir
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    try:
        folder, handle = _make(parent)
    except OSError as error:
        raise StoreError(f"No folder can be made in {parent}: {error.strerror or error}.") from error
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _make(parent: Path) -> tuple[Path, int]:
    """A new folder, and its lock. It gets its name once it is locked, so that nobody takes it for a dead one's."""
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    handle = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return made.rename(parent / made.name[1:]), handle


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or gone meanwhile
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # its process is at work
        finally:
            os.close(handle)
