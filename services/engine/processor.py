"""What numerical libraries are told about the processor, because what they choose by themselves is slower.

CTranslate2 takes AVX2 unless told otherwise. numpy's BLAS computes each product with a thread per core, which compete with the
streams: those already occupy every core, with one thread each. The figures are in docs/decisions/0040.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path
from typing import Final

from threadpoolctl import threadpool_limits

_AVX512: Final = frozenset({"avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"})
"""What CTranslate2's AVX-512 kernels need; they raise an error on a processor without."""
_VNNI: Final = "avx512_vnni"
"""Processors without it may lower their clock for AVX-512, so that AVX2 is the better choice there."""
_CPUINFO: Final = Path("/proc/cpuinfo")


def limit_blas_to_one_thread() -> None:
    """Let numpy compute each product in the thread that asks for it, from now on and in the whole process.

    Not by an environment variable: trainers inherit those, and compute one product at a time.
    """
    threadpool_limits(1, user_api="blas")


def choose_ct2_kernels(cpuinfo: Path = _CPUINFO) -> None:
    """Tell CTranslate2 to use AVX-512 where that is faster; call it before `import ctranslate2`. A user's choice stays."""
    if kernels := faster_kernels(_flags(cpuinfo)):
        os.environ.setdefault("CT2_FORCE_CPU_ISA", kernels)


@cache
def has_vnni(cpuinfo: Path = _CPUINFO) -> bool:
    """Return whether the processor multiplies int8 as the one did on which int8 was compared with fp32."""
    return bool(_flags(cpuinfo) & {_VNNI, "avx_vnni"})


def faster_kernels(flags: frozenset[str]) -> str:
    """Return CTranslate2's name of the kernels to use on a processor with these flags; "" for its own choice."""
    return "AVX512" if flags >= _AVX512 | {_VNNI} else ""


def _flags(cpuinfo: Path) -> frozenset[str]:
    """Return the flags that all cores have; none where the file is missing, as on macOS, or has none, as on ARM."""
    try:
        text = cpuinfo.read_text("utf-8", "replace")
    except OSError:
        return frozenset()
    cores = [frozenset(line.split()) for line in re.findall(r"^flags\s*:(.*)$", text, re.MULTILINE)]
    return frozenset.intersection(*cores) if cores else frozenset()
