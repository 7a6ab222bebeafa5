"""A run that was promised a GPU does not train on the CPU for hours; one in a small container starts few threads."""

from __future__ import annotations

import os

import pytest
import torch

from services.core.domain import RunState
from services.core.errors import BadConfig
from services.trainer import hardware
from services.trainer.hardware import check_gpus, limit_threads_to_cgroup
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import run_in_process


def gpus(monkeypatch: pytest.MonkeyPatch, count: int, cuda: str | None = "13.0") -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.version, "cuda", cuda)


@pytest.mark.parametrize(
    ("wanted", "there", "cuda", "said"),
    [
        (1, 0, None, "promised a GPU and finds none: this image's torch was built for CPUs alone"),
        (1, 0, "13.0", "promised a GPU and finds none: its pod got no nvidia.com/gpu"),
        (4, 2, "13.0", "promised 4 GPUs and finds only 2: ask for more of them"),
    ],
)
def test_a_gpu_that_is_not_there_is_a_wrong_setting(
    monkeypatch: pytest.MonkeyPatch, wanted: int, there: int, cuda: str | None, said: str
) -> None:
    gpus(monkeypatch, there, cuda)
    with pytest.raises(BadConfig, match=said) as error:
        check_gpus(wanted)
    assert "trainer.allowCpu=true" in str(error.value)


def test_gpus_that_are_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    gpus(monkeypatch, 2)
    check_gpus(2)


@pytest.mark.usefixtures("quiet")
def test_the_run_says_so_before_it_reads_anything(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpus(monkeypatch, 0)
    monkeypatch.setenv("FITLOOP_REQUIRE_GPU", "true")
    world.label(30)
    run = world.request()
    assert run_in_process(world, run, monkeypatch) == 78
    status = world.status(run)
    assert (status.state, status.exit_code, status.stage) == (RunState.FAILED, 78, "")
    assert "promised a GPU and finds none" in status.message
    assert world.runs.snapshot(run) is None


@pytest.mark.parametrize(("cores", "threads"), [(1, "1"), (10_000, None)])
def test_a_quota_of_the_container_bounds_the_threads(
    monkeypatch: pytest.MonkeyPatch, cores: int, threads: str | None
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(hardware, "cores", lambda: cores)
    monkeypatch.setenv("OMP_NUM_THREADS", "to be removed at the end")
    monkeypatch.delenv("OMP_NUM_THREADS")
    limit_threads_to_cgroup()
    assert os.environ.get("OMP_NUM_THREADS") == threads
