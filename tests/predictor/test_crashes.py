"""What crashed the process while it was loaded is refused without a third load, unless something else may be the cause."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from services.core.errors import EngineError, Overloaded
from services.core.http.limits import memory_limit
from services.engine.loading import EncoderKey
from services.predictor.crashes import DELAY_SECONDS, CrashGuard

KEY = EncoderKey("", "5-1", "v-1")
OTHER = EncoderKey("ab" * 32)

_cut_off: list[AbstractContextManager[None]] = []
"""Kept, because a load that is thrown away ends."""


def crash_in(crashes: CrashGuard, key: EncoderKey = KEY, size: int = 0) -> None:
    """Act as a process that is killed during a load: nothing after the load runs."""
    load = crashes.guard(key, size)
    load.__enter__()  # and never __exit__
    _cut_off.append(load)


def load(crashes: CrashGuard, key: EncoderKey = KEY) -> None:
    with crashes.guard(key, 0):
        pass


def test_third_load_after_two_crashes_is_refused(tmp_path: Path) -> None:
    for _ in range(2):
        crash_in(CrashGuard(tmp_path))
    with pytest.raises(EngineError, match="version v-1 crashed the predictor 2 times"):
        load(CrashGuard(tmp_path))
    load(CrashGuard(tmp_path), OTHER)


@pytest.mark.parametrize("cause", ["requests", "memory", "another load"])
def test_load_is_not_blamed_for_what_else_may_crash(tmp_path: Path, cause: str) -> None:
    now = [1e9]
    for _ in range(2):
        crashes = CrashGuard(tmp_path, lambda: cause == "requests")
        if cause == "another load":
            crash_in(crashes, OTHER)
        crash_in(crashes, size=memory_limit() if cause == "memory" else 0)
    crashes = CrashGuard(tmp_path, clock=lambda: now[0])
    now[0] = crashes._path(KEY).stat().st_mtime + DELAY_SECONDS - 1
    with pytest.raises(Overloaded, match="crashed 2 times while it loaded version v-1"):
        load(crashes)
    now[0] += 1
    load(crashes)
    load(crashes)


def test_crash_without_another_cause_confirms_an_unclear_one(tmp_path: Path) -> None:
    crash_in(CrashGuard(tmp_path, lambda: True))
    crash_in(CrashGuard(tmp_path))
    with pytest.raises(EngineError, match="crashed the predictor 2 times"):
        load(CrashGuard(tmp_path))


def test_completed_load_resets_the_crash_count(tmp_path: Path) -> None:
    for error in (None, EngineError("broken")):
        crash_in(CrashGuard(tmp_path))
        try:
            with CrashGuard(tmp_path).guard(KEY, 0):
                if error:
                    raise error
        except EngineError:
            pass
        assert list(tmp_path.iterdir()) == []


def test_shutdown_during_a_load_is_no_crash(tmp_path: Path) -> None:
    for _ in range(5):
        crashes = CrashGuard(tmp_path)
        crash_in(crashes)
        crashes.forgive_current_loads()
    load(CrashGuard(tmp_path))  # must not raise


def test_unusable_crash_folder_does_not_prevent_loads(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    load(CrashGuard(file / "below"))  # must not raise
    CrashGuard(tmp_path)._path(KEY).write_text("nonsense")
    load(CrashGuard(tmp_path))  # must not raise


def test_missing_library_names_the_image_to_use(tmp_path: Path) -> None:
    with (
        pytest.raises(EngineError, match=r"The version v-1 needs torch, .* built with WITH_TORCH=true\."),
        CrashGuard(tmp_path).guard(KEY, 0),
    ):
        raise ModuleNotFoundError("No module named 'torch'", name="torch")
    assert list(tmp_path.iterdir()) == [], "that is no crash"
