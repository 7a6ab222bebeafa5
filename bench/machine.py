"""Description of the machine, without names of host, user or paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from importlib import metadata
from pathlib import Path

_PACKAGES = ("torch", "transformers", "tokenizers", "ctranslate2", "accelerate")
_BUSY, _LISTEN = 0.2, 3.0
"""Busy cores above which results are reported as disturbed, and the seconds of observation."""


def describe(label_studio: Path) -> dict[str, str]:
    """Return processor, cores, memory, system and versions."""
    return {
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
        "processor": processor(),
        "cores": str(cores()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        **{package: version for package in _PACKAGES if (version := _version(package))},
        **({"Label Studio": found} if (found := _label_studio_version(label_studio)) else {}),
    }


def disturbance() -> str:
    """Return a sentence if other processes use the cores now, else "". Takes three seconds."""
    before, begun = _busy_seconds(), time.monotonic()
    time.sleep(_LISTEN)
    busy = (_busy_seconds() - before) / (time.monotonic() - begun)
    return f"Disturbed: other programs kept {busy:.1f} cores busy when this began." if busy > _BUSY else ""


def _busy_seconds() -> float:
    """Return the busy seconds of all cores since boot; 0 if unknown."""
    try:
        user, nice, system = Path("/proc/stat").read_text("utf-8").split(maxsplit=4)[1:4]
    except OSError:
        return 0.0
    return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK")


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def processor() -> str:
    """Return the processor's name and the instruction sets that determine its speed."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    flags = set(
        (re.search(r"^flags\s*:\s*(.+)$", text, re.MULTILINE) or re.match("()", text) or [""])[0].split()
    )
    has = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if flag in flags]
    return f"{name[1].strip() if name else platform.machine()} ({', '.join(has) or 'no AVX2'})"


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of the process, without its children."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        found = re.search(r"^VmRSS:\s*(\d+) kB", status.read_text("utf-8"), re.MULTILINE)
        return int(found[1]) * 1024 / 1e6 if found else 0.0
    answer = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, text=True, check=True)
    return int(answer.stdout) * 1024 / 1e6


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _label_studio_version(executable: Path) -> str:
    """Return the version in the environment of the executable."""
    python = executable.parent / "python"
    if not python.exists():
        return ""
    code = "from importlib.metadata import version; print(version('label-studio'))"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    return answer.stdout.strip()
