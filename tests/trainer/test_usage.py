"""What a run's process says of its memory and its GPU."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from services.trainer import usage
from services.trainer.usage import Usage, measure_usage


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


def test_resident_memory_is_that_of_the_process_and_torch_is_not_imported_for_it() -> None:
    script = "import sys; from services.trainer.usage import measured; print(measured().resident_bytes, 'torch' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    assert said.split()[1] == "False"
    assert said.split()[0] == "None" or 3e6 < int(said.split()[0]) < 3e8


def test_a_machine_that_does_not_say_costs_no_failure(tmp_path: Path) -> None:
    assert usage._resident_bytes(tmp_path / "statm") is None


def test_the_gpu_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "3")
    cuda = Cuda()
    found = on(monkeypatch, cuda)
    assert (found.gpu_memory_bytes, found.gpu_memory_limit_bytes, found.gpu_utilization) == (30, 80, 0.93)
    assert cuda.asked == [3, 3], "asking about another GPU would begin to use it"


@pytest.mark.parametrize(
    "cuda", [None, SimpleNamespace(), Cuda(is_initialized=lambda: False)], ids=["no", "half", "idle"]
)
def test_a_gpu_that_is_not_used_yet_is_left_alone(monkeypatch: pytest.MonkeyPatch, cuda: object) -> None:
    """Neither before torch is imported, nor halfway, nor before it has begun."""
    found = on(monkeypatch, cuda)
    assert found == Usage(found.resident_bytes)


@pytest.mark.parametrize("kind", [RuntimeError, ModuleNotFoundError, ValueError])
def test_a_gpu_that_does_not_say_how_busy_it_is_still_says_its_memory(
    monkeypatch: pytest.MonkeyPatch, kind: type[Exception]
) -> None:
    found = on(monkeypatch, Cuda(utilization=fails(kind)))
    assert (found.gpu_memory_bytes, found.gpu_utilization) == (30, None)


def test_a_gpu_that_has_failed_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    found = on(monkeypatch, Cuda(mem_get_info=fails(RuntimeError), utilization=fails(RuntimeError)))
    assert (found.gpu_memory_bytes, found.gpu_memory_limit_bytes, found.gpu_utilization) == (None,) * 3
