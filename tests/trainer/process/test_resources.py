"""A process's memory, GPUs, threads and temporary folder."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from services.core.domain import RunState
from services.core.errors import BadConfig, StoreError
from services.trainer.process import resources
from services.trainer.process.resources import (
    Usage,
    check_gpus,
    limit_threads_to_cgroup,
    measure_usage,
    scratch,
)
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import run_in_process


class Cuda(SimpleNamespace):
    """torch.cuda of a process that computes on a GPU of 80 GB, 30 of them taken."""

    def __init__(self, **changes: Any) -> None:
        self.asked: list[int] = []
        working = {"is_initialized": lambda: True, "mem_get_info": self._memory, "utilization": self._busy}
        super().__init__(**(working | changes))

    def _memory(self, device: int) -> tuple[int, int]:
        self.asked.append(device)
        return 50, 80

    def _busy(self, device: int) -> int:
        self.asked.append(device)
        return 93


def fails(kind: type[Exception]) -> Any:
    def fail(_: int) -> Any:
        raise kind("made to fail")

    return fail


def on(monkeypatch: pytest.MonkeyPatch, cuda: object) -> Usage:
    """What is measured beside that torch.cuda."""
    monkeypatch.setitem(sys.modules, "torch.cuda", cuda)
    return measure_usage()


def test_resident_memory_without_importing_torch() -> None:
    script = "import sys; from services.trainer.process.resources import measure_usage; print(measure_usage().resident_bytes, 'torch' in sys.modules)"
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert output.split()[1] == "False"
    assert output.split()[0] == "None" or 3e6 < int(output.split()[0]) < 3e8


def test_unknown_memory_is_none(tmp_path: Path) -> None:
    assert resources._resident_bytes(tmp_path / "statm") is None


def test_usage_is_of_the_processs_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    cuda = Cuda()
    found = on(monkeypatch, cuda)
    assert (found.gpu_memory_bytes, found.gpu_memory_limit_bytes, found.gpu_utilization) == (30, 80, 0.93)
    assert cuda.asked == [3, 3], "asking about another GPU would begin to use it"


@pytest.mark.parametrize(
    "cuda", [None, SimpleNamespace(), Cuda(is_initialized=lambda: False)], ids=["no", "half", "idle"]
)
def test_measuring_never_initialises_the_gpu(monkeypatch: pytest.MonkeyPatch, cuda: object) -> None:
    """Neither before torch is imported, nor halfway, nor before it has begun."""
    found = on(monkeypatch, cuda)
    assert found == Usage(found.resident_bytes)


@pytest.mark.parametrize("kind", [RuntimeError, ModuleNotFoundError, ValueError])
def test_gpu_memory_without_utilization(monkeypatch: pytest.MonkeyPatch, kind: type[Exception]) -> None:
    found = on(monkeypatch, Cuda(utilization=fails(kind)))
    assert (found.gpu_memory_bytes, found.gpu_utilization) == (30, None)


def test_a_failed_gpu_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on(monkeypatch, Cuda(mem_get_info=fails(RuntimeError), utilization=fails(RuntimeError)))
    assert (found.gpu_memory_bytes, found.gpu_memory_limit_bytes, found.gpu_utilization) == (None,) * 3


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, cuda: str | None = "13.0") -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", cuda)


@pytest.mark.parametrize(
    ("wanted", "there", "cuda", "output"),
    [
        (1, 0, None, "requested a GPU and finds none: this image's torch was built for CPU only"),
        (1, 0, "13.0", "requested a GPU and finds none: its pod got no nvidia.com/gpu"),
        (4, 2, "13.0", "requested 4 GPUs and finds only 2: request more GPUs"),
    ],
)
def test_missing_gpus_are_bad_config(
    monkeypatch: pytest.MonkeyPatch, wanted: int, there: int, cuda: str | None, output: str
) -> None:
    gpus(monkeypatch, there, cuda)
    with pytest.raises(BadConfig, match=output) as error:
        check_gpus(wanted)
    assert "trainer.allowCpu=true" in str(error.value)


def test_enough_gpus_pass_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    check_gpus(2)  # must not raise


@pytest.mark.usefixtures("quiet")
def test_gpus_are_checked_before_anything_is_read(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 0)
    monkeypatch.setenv("FITLOOP_REQUIRE_GPU", "true")
    world.label(30)
    run = world.request()
    assert run_in_process(world, run, monkeypatch) == 78
    status = world.status(run)
    assert (status.state, status.exit_code, status.stage) == (RunState.FAILED, 78, "")
    assert "requested a GPU and finds none" in status.message
    assert world.runs.snapshot(run) is None


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (10_000, None)])
def test_threads_are_limited_to_the_cgroup(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: str | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(resources, "available_cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "to be removed at the end")
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads_to_cgroup()
    assert os.environ.get("OMP_NUM_THREADS") == threads


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The machine's folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_scratch_holds_temporary_files(parent: Path) -> None:
    with scratch() as folder:
        made = Path(tempfile.mkdtemp())
        assert made.parent == folder
        assert folder.parent == parent
    assert not list(parent.iterdir())
    assert tempfile.gettempdir() == str(parent)


def test_scratch_removes_dead_processes_folders(parent: Path) -> None:
    dead = parent / "fitloop-trainer-dead"
    dead.mkdir()
    (dead / "lock").touch()
    (dead / "model").touch()
    with scratch() as living:
        assert not dead.exists()
        tempfile.tempdir = str(parent)
        with scratch() as other:
            assert living.exists()
            assert other != living
        assert living.exists()


def test_scratch_keeps_other_files(parent: Path) -> None:
    others = parent / "fitloop-trainer-without-a-lock"
    others.mkdir()
    with scratch():
        pass
    assert list(parent.iterdir()) == [others]


def test_scratch_without_a_folder_is_a_store_error(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(parent / "none"))
    with pytest.raises(StoreError, match="No folder can be created in"), scratch():
        pass
