"""A process's resources: its threads and GPUs, how much memory it uses, and its temporary folder.

The run's status has the usage, since the pod is too short-lived to be scraped. Measuring takes microseconds on a CPU and about
a millisecond on a GPU, and never initialises CUDA. What the machine does not report is None. With several processes the usage is
rank 0's.
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
_PREFIX = "fitloop-trainer-"
_LOCK = "lock"
_DRIVER = Path("/dev/nvidiactl")


@dataclass(frozen=True, slots=True)
class Usage:
    """Fields of RunStatus, by the same names."""

    resident_bytes: int | None = None
    gpu_memory_bytes: int | None = None
    gpu_memory_limit_bytes: int | None = None
    gpu_utilization: float | None = None


def measure_usage() -> Usage:
    """Measure now."""
    cuda = _cuda()
    if cuda is None:
        return Usage(_resident_bytes())
    used, limit = _gpu_memory(cuda)
    return Usage(_resident_bytes(), used, limit, _gpu_utilization(cuda))


def _resident_bytes(statm: Path = _STATM) -> int | None:
    """Return what Linux reports; elsewhere only the peak is known, which would look like a leak."""
    try:
        return int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return None


def _cuda() -> Any | None:
    """Return torch.cuda if this process computes on a GPU; never import torch or initialise the GPU."""
    cuda = sys.modules.get("torch.cuda")
    begun = getattr(cuda, "is_initialized", None)
    return cuda if begun is not None and begun() else None


def _device() -> int:
    """Return the GPU of this process: a new thread would otherwise initialise the first one."""
    return int(os.environ.get("LOCAL_RANK", "0"))


def _gpu_memory(cuda: Any) -> tuple[int | None, int | None]:
    """Return used and total bytes of the device, whichever process uses them; of a MIG slice, the slice's."""
    try:
        free, total = cuda.mem_get_info(_device())
    except RuntimeError:  # the GPU has failed: the run fails by itself
        return None, None
    return total - free, total


def _gpu_utilization(cuda: Any) -> float | None:
    try:
        return float(cuda.utilization(_device())) / 100
    except Exception:  # noqa: BLE001  # NVML's own errors: it is not installed, or a slice of a GPU has no such figure
        return None


def limit_threads_to_cgroup() -> None:
    """Limit torch's threads to the container's cores; call before torch is imported.

    A thread for each core of the machine would be throttled.
    """
    # Threads that sleep while they wait leave busy cores to others, and cost nothing on idle ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if available_cores() < there:
        os.environ.setdefault("OMP_NUM_THREADS", str(available_cores()))


def has_gpu() -> bool:
    """Return whether NVIDIA's driver is there, without importing torch."""
    return _DRIVER.exists()


def check_gpus(wanted: int) -> None:
    """Raise BadConfig if there are fewer CUDA devices than the run requested."""
    import torch

    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found >= wanted:
        return
    promised = "a GPU" if wanted == 1 else f"{wanted} GPUs"
    there = "none" if found == 0 else f"only {found}"
    raise BadConfig(
        f"This Job requested {promised} and finds {there}: {_why(found)}. Correct that, or set trainer.allowCpu=true "
        "to train on CPU (outside a cluster: FITLOOP_REQUIRE_GPU=false)."
    )


def _why(found: int) -> str:
    import torch

    if found:
        return "request more GPUs, or fewer processes"
    if torch.version.cuda is None:
        return "this image's torch was built for CPU only"
    return "its pod got no nvidia.com/gpu, or the node's driver or container runtime does not expose it"


@contextmanager
def scratch() -> Iterator[Path]:
    """Make this process's temporary files in a folder of its own, and remove it at the end. Raises StoreError.

    The folder has a file that the process keeps locked, and the kernel releases the lock however the process dies: the next
    process on the machine removes the folders of killed ones.
    """
    before = tempfile.tempdir
    parent = Path(tempfile.gettempdir())
    _sweep(parent)
    try:
        folder, handle = _make(parent)
    except OSError as error:
        raise StoreError(f"No folder can be created in {parent}: {error.strerror or error}.") from error
    tempfile.tempdir = str(folder)
    try:
        yield folder
    finally:
        tempfile.tempdir = before
        shutil.rmtree(folder, ignore_errors=True)
        os.close(handle)


def _make(parent: Path) -> tuple[Path, int]:
    """Create a folder and its lock. It gets its name once it is locked, so that it is not mistaken for a dead process's."""
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}", dir=parent))
    handle = os.open(made / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(handle, fcntl.LOCK_EX)
    return made.rename(parent / made.name[1:]), handle


def _sweep(parent: Path) -> None:
    for folder in parent.glob(f"{_PREFIX}*"):
        try:
            handle = os.open(folder / _LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except OSError:
            continue  # another user's, or removed meanwhile
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        except BlockingIOError:
            pass  # its process is running
        finally:
            os.close(handle)
