from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from services.engine import processor
from services.engine.scheduler import Scheduler

AVX512 = "avx2 avx512f avx512cd avx512vl avx512dq avx512bw"


def chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *cores: str) -> str | None:
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", "to be restored at the end")
    monkeypatch.delenv("CT2_FORCE_CPU_ISA")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text("".join(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t:\n" for flags in cores))
    processor.choose_ct2_kernels(cpuinfo)
    return os.environ.get("CT2_FORCE_CPU_ISA")


def test_avx512_with_vnni_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(tmp_path, monkeypatch, f"{AVX512} avx512_vnni", f"avx512_vnni {AVX512}") == "AVX512"


@pytest.mark.parametrize("lacks", [*AVX512.split()[1:], "avx512_vnni"])
def test_one_missing_flag_leaves_ct2_its_choice(
    lacks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = f"{AVX512} avx512_vnni"
    assert chosen(tmp_path, monkeypatch, whole, whole.replace(lacks, "sse2")) is None


def test_processors_without_flags_leave_ct2_its_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(tmp_path, monkeypatch) is None
    processor.choose_ct2_kernels(tmp_path / "missing")
    assert "CT2_FORCE_CPU_ISA" not in os.environ


def test_a_users_choice_of_kernels_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CT2_FORCE_CPU_ISA", "GENERIC")
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"flags : {AVX512} avx512_vnni\n")
    processor.choose_ct2_kernels(cpuinfo)
    assert os.environ["CT2_FORCE_CPU_ISA"] == "GENERIC"


def test_a_scheduler_leaves_blas_one_thread_and_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    assert np.ones((2, 2)) @ np.ones(2) is not None
    with threadpool_limits(2, user_api="blas"):
        Scheduler(1, 10).close()
        threads = {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}
    assert threads <= {1}
    assert "OPENBLAS_NUM_THREADS" not in os.environ
