"""A version whose load crashed the process twice is refused without a third load."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from services.core.errors import EngineError
from services.predictor.crashes import CrashGuard

KEY = "5-1"


_cut_off: list[AbstractContextManager[None]] = []
"""Kept, because a load that is thrown away ends."""


def crash_in(crashes: CrashGuard, version: str) -> None:
    """Act as a process that is killed during a load: nothing after the load runs."""
    load = crashes.guard(KEY, version)
    load.__enter__()  # and never __exit__
    _cut_off.append(load)


def test_third_load_after_two_crashes_is_refused(tmp_path: Path) -> None:
    for _ in range(2):
        crash_in(CrashGuard(tmp_path), "v-1")
    with (
        pytest.raises(EngineError, match="v-1 crashed the predictor 2 times"),
        CrashGuard(tmp_path).guard(KEY, "v-1"),
    ):
        pytest.fail("it was loaded")
    with CrashGuard(tmp_path).guard(KEY, "v-2"):
        pass


def test_completed_load_resets_the_crash_count(tmp_path: Path) -> None:
    for error in (None, EngineError("broken")):
        crash_in(CrashGuard(tmp_path), "v-1")
        try:
            with CrashGuard(tmp_path).guard(KEY, "v-1"):
                if error:
                    raise error
        except EngineError:
            pass
        assert list(tmp_path.iterdir()) == []


def test_shutdown_during_a_load_is_no_crash(tmp_path: Path) -> None:
    for _ in range(5):
        crashes = CrashGuard(tmp_path)
        crash_in(crashes, "v-1")
        crashes.forgive_current_loads()
    with CrashGuard(tmp_path).guard(KEY, "v-1"):  # must not raise
        pass


def test_unusable_crash_folder_does_not_prevent_loads(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    with CrashGuard(file / "below").guard(KEY, "v-1"):  # must not raise
        pass
    CrashGuard(tmp_path)._path(KEY, "v-1").write_text("nonsense")
    with CrashGuard(tmp_path).guard(KEY, "v-1"):  # must not raise
        pass


def test_missing_library_names_the_image_to_use(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"Version v-1 needs torch, .* built with WITH_TORCH=true\."),
        CrashGuard(tmp_path).guard(KEY, "v-1"),
    ):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    assert list(tmp_path.iterdir()) == [], "that is no crash"
