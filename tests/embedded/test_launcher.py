"""What children add to the contract: they end with their parent, run niced, and their last lines are kept."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import Attempt, LaunchState, Parameters, RunRequest, RunState
from services.core.errors import StoreError
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.embedded.launcher import RETRY_DELAYS, ChildLauncher, StopReason, next_step
from tests.support.waiting import eventually

REQUEST = RunRequest("1-1", "1-x", 1, "test", Parameters(), 0.0)


class LauncherWorld:
    """A data folder with a launcher whose trainers run `code`."""

    def __init__(self, folder: Path, code: str) -> None:
        self.folder = folder
        self.store = FileStore(folder / "data")
        self.runs = Runs(self.store)
        self.script = folder / "trainer.py"
        self.script.write_text(code)
        self.changed = threading.Event()
        self.launcher = self.make()

    def make(self, **options: float) -> ChildLauncher:
        return ChildLauncher(
            self.store,
            self.folder / "data" / "locks",
            lambda _: self.changed.set(),
            program=str(self.script),
            delays=(0.0,) * 3,
            **options,
        )

    def end(self) -> LaunchState:
        self.launcher.launch(REQUEST)
        eventually(self.outcome)
        launch = self.launcher.observe("1-1")
        assert launch is not None
        return launch

    def outcome(self) -> RunState | None:
        launch = self.launcher.observe("1-1")
        return launch.outcome if launch else None


def test_log_keeps_the_last_200_lines(tmp_path: Path) -> None:
    world = LauncherWorld(
        tmp_path, "import sys\nfor n in range(300): print(n)\nprint('of stderr', file=sys.stderr)"
    )
    world.end()
    assert world.runs.log("1-1").splitlines() == [*map(str, range(101, 300)), "of stderr"]


def test_log_is_written_during_the_run(tmp_path: Path) -> None:
    """Also the second line, right after the first: no line waits for the next."""
    world = LauncherWorld(tmp_path, "import threading\nprint(1)\nprint(2)\nthreading.Event().wait(60)")
    world.launcher.launch(REQUEST)
    eventually(lambda: world.runs.log("1-1") == "1\n2\n")
    assert world.outcome() is None
    world.launcher.close()


def test_log_keeps_last_progress_state_and_any_bytes(tmp_path: Path) -> None:
    world = LauncherWorld(tmp_path, r"import os; os.write(1, b'10 %\r90 %\r\n\xff' + b'x' * 5000)")
    world.end()
    first, second = world.runs.log("1-1").splitlines()
    assert first == "90 %"
    assert second == "�" + "x" * 1999


def test_log_of_earlier_attempts_is_kept(tmp_path: Path) -> None:
    world = LauncherWorld(tmp_path, "import os, sys\nprint('try')\nsys.exit(75)")
    world.end()
    assert world.runs.log("1-1") == "try\n" * 4
    world.runs.write(LaunchState("1-1"))
    world.end()
    assert world.runs.log("1-1") == "try\n" * 8


def test_trainer_is_niced_and_gets_the_run_url(tmp_path: Path) -> None:
    world = LauncherWorld(tmp_path, "import os, sys\nprint(os.nice(0), sys.argv[1:], __name__)")
    before = os.nice(0)
    world.end()
    assert (
        world.runs.log("1-1") == f"{min(before + 10, 19)} ['--run', '{world.store.url}/runs/1-1'] __main__\n"
    )


def test_local_services_folder_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "services").mkdir()
    (tmp_path / "services" / "__init__.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    world = LauncherWorld(tmp_path, "import services.core.errors")
    assert world.end().outcome is RunState.DONE


def test_program_may_be_a_module(tmp_path: Path) -> None:
    world = LauncherWorld(tmp_path, "")
    world.launcher = ChildLauncher(
        world.store, tmp_path / "locks", lambda _: world.changed.set(), program="platform"
    )
    assert world.end().outcome is RunState.DONE
    assert world.runs.log("1-1").strip()


def test_surviving_grandchild_does_not_block(tmp_path: Path) -> None:
    code = "import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE).pid)"
    world = LauncherWorld(tmp_path, code + "\nimport os; os._exit(0)")
    assert world.end().outcome is RunState.DONE


def test_on_change_is_called_at_the_end(tmp_path: Path) -> None:
    world = LauncherWorld(tmp_path, "")
    world.launcher.launch(REQUEST)
    assert world.changed.wait(20)
    eventually(world.outcome)
    assert not list((tmp_path / "data" / "locks").iterdir())


def test_unstartable_trainer_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-python"))
    world = LauncherWorld(tmp_path, "")
    assert world.end().outcome is RunState.FAILED
    assert "could not be started" in world.runs.log("1-1")


def test_outcome_is_known_despite_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = LauncherWorld(tmp_path, "print(1)")

    def full(key: str, _data: bytes) -> None:
        raise StoreError(f"{key} cannot be written")

    monkeypatch.setattr(world.store, "write", full)
    assert world.end().outcome is RunState.DONE
    world.launcher.launch(REQUEST)
    assert world.outcome() is RunState.DONE
    world.launcher.close()


def test_close_kills_a_stubborn_process(tmp_path: Path) -> None:
    code = "import signal, threading\nsignal.signal(15, signal.SIG_IGN)\nprint(1)\nthreading.Event().wait(60)"
    world = LauncherWorld(tmp_path, code)
    world.launcher = world.make(close_seconds=0.2)
    world.launcher.launch(REQUEST)
    eventually(lambda: world.runs.log("1-1"))
    world.launcher.close()
    launch = world.runs.launch_state("1-1")
    assert launch is not None
    assert (launch.outcome, launch.attempts[0].exit_code) == (None, None)


@pytest.mark.parametrize("reason", ["cancel", "close"])
def test_cancel_ends_a_run_that_awaits_retry(tmp_path: Path, reason: str) -> None:
    world = LauncherWorld(tmp_path, "raise SystemExit(75)")
    world.launcher = ChildLauncher(
        world.store,
        tmp_path / "locks",
        lambda _: world.changed.set(),
        program=str(world.script),
        delays=(600.0,) * 3,
    )
    world.launcher.launch(REQUEST)

    def ended_once() -> bool:
        launch = world.launcher.observe("1-1")
        return bool(launch and launch.attempts and launch.attempts[0].exit_code == 75)

    eventually(ended_once)
    if reason == "cancel":
        world.launcher.cancel("1-1")
        eventually(world.outcome)
        assert world.outcome() is RunState.CANCELLED
    else:
        world.launcher.close()
        assert world.outcome() is None


PARENT = """
import sys, threading
from pathlib import Path
from services.core.domain import Parameters, RunRequest
from services.core.store import open_store
from services.embedded.launcher import ChildLauncher
folder = Path(sys.argv[1])
launcher = ChildLauncher(open_store((folder / "data").as_uri()), folder / "data" / "locks", lambda _: None,
                         program=str(folder / "trainer.py"))
launcher.launch(RunRequest("1-1", "1-x", 1, "test", Parameters(), 0.0))
threading.Event().wait(60)
"""
TRAINER = """
import os, signal, sys, threading
from pathlib import Path
folder = Path(__file__).parent
def end(number, frame):
    if (folder / "hold").exists():
        (folder / "holding").touch()
        while (folder / "hold").exists():
            threading.Event().wait(0.01)
    (folder / "signal").write_text(str(number))
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
(folder / "pid").write_text(str(os.getpid()))
(folder / "started").rename(folder / "again") if (folder / "started").exists() else None
(folder / "started").touch()
threading.Event().wait(60)
"""


def killed_parent(world: LauncherWorld) -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(world.folder)])
    try:
        eventually((world.folder / "started").exists)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return b"State:\tZ" not in Path(f"/proc/{pid}/status").read_bytes()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_child_gets_sigterm_when_parent_is_killed(tmp_path: Path) -> None:
    world = LauncherWorld(tmp_path, TRAINER)
    killed_parent(world)
    eventually((tmp_path / "signal").exists)
    assert (tmp_path / "signal").read_text() == str(int(signal.SIGTERM))
    eventually(lambda: not is_alive(int((tmp_path / "pid").read_text())))
    launch = world.runs.launch_state("1-1")
    assert launch is not None
    assert launch.outcome is None


def test_next_attempt_waits_for_an_orphan(tmp_path: Path) -> None:
    """Two trainers never work on the same run, however their parent died."""
    world = LauncherWorld(tmp_path, TRAINER)
    (tmp_path / "hold").touch()
    killed_parent(world)
    eventually((tmp_path / "holding").exists)
    world.launcher.launch(REQUEST)

    def second_attempt() -> bool:
        launch = world.launcher.observe("1-1")
        return bool(launch and [attempt.number for attempt in launch.attempts] == [1, 2])

    eventually(second_attempt)
    assert not (tmp_path / "again").exists()
    (tmp_path / "hold").unlink()
    eventually((tmp_path / "again").exists)
    assert (tmp_path / "signal").exists()
    world.launcher.close()


CODES = st.none() | st.sampled_from([75, -9, -15, -11])


@given(st.lists(CODES, max_size=8), st.sampled_from([0, 1, 64, 65, 78, 75, -9, None]))
def test_next_step_counts_failures_only(earlier: Sequence[int | None], last: int | None) -> None:
    attempts = [Attempt(number, 0.0, 1.0, code) for number, code in enumerate([*earlier, last], 1)]
    follows = next_step(attempts, None)
    failures = sum(attempt.exit_code is not None for attempt in attempts)
    if last == 0:
        assert follows is RunState.DONE
    elif last is None:
        assert follows == 0.0
    elif last in {75, -9} and failures <= 3:
        assert follows == RETRY_DELAYS[failures - 1]
    else:
        assert follows is RunState.FAILED
    assert next_step(attempts, StopReason.CANCEL) is RunState.CANCELLED
    closed = next_step(attempts, StopReason.CLOSE)
    assert closed is (follows if last in {0, 1, 64, 65, 78} else None)
