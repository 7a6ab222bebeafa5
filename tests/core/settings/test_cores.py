"""How many cores a process may use: a container's quota counts, in both versions of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from services.core.settings.training import available_cores, cpu_quota


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_max", ".max").replace("cpu_cfs", "cpu.cfs")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [
        ("100000 100000\n", 1.0),
        ("150000 100000\n", 1.5),
        ("50000 100000\n", 0.5),
        ("max 100000\n", None),
        ("", None),
    ],
)
def test_version_2(tmp_path: Path, cpu_max: str, expected: float | None) -> None:
    assert cpu_quota(write(tmp_path, cpu_max=cpu_max)) == expected


@pytest.mark.parametrize(("most", "expected"), [("200000\n", 2.0), ("-1\n", None), ("nonsense\n", None)])
def test_version_1(tmp_path: Path, most: str, expected: float | None) -> None:
    folder = write(tmp_path, cpu__cpu_cfs_quota_us=most, cpu__cpu_cfs_period_us="100000\n")
    assert cpu_quota(folder) == expected


def test_no_control_group_sets_no_limit(tmp_path: Path) -> None:
    assert cpu_quota(tmp_path) is None


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("100000 100000", 1), ("150000 100000", 1), ("350000 100000", 3), ("50000 100000", 1), ("max 1", 8)],
)
def test_a_pod_with_one_cpu_runs_one_thread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cpu_max: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert available_cores(write(tmp_path, cpu_max=cpu_max)) == expected
