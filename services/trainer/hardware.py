"""What the process computes on: the GPU that it was promised, and no more threads than its container may run."""

from __future__ import annotations

import os

from services.core.errors import BadConfig
from services.core.settings.models import cores


def limit_threads_to_cgroup() -> None:
    """Before torch is imported: a thread for each core of the machine would be throttled in a container with a few."""
    # Threads that sleep while they wait leave busy cores to others, and cost nothing on idle ones.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores() < there:
        os.environ.setdefault("OMP_NUM_THREADS", str(cores()))


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
