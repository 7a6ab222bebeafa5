"""status.json of a run."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from services.core.domain import Attempt, LaunchState, Published, RunState, RunStatus
from services.core.errors import StoreError, StoreUnreachable
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.trainer.process import progress as module
from services.trainer.process.progress import Progress, first_status
from services.trainer.process.resources import Usage
from tests.support.waiting import eventually


def status(runs: Runs) -> RunStatus:
    found = runs.status("1-1")
    assert found is not None
    return found


def test_status_is_written_periodically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.01)
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        progress.stage("features", steps=10)
        progress.step(4, loss=0.5, texts_per_second=100.0)
        eventually(lambda: status(runs).step == 4)
        found = status(runs)
        eventually(lambda: status(runs).updated_at > found.updated_at)
    assert (found.loss, found.texts_per_second, found.steps) == (0.5, 100.0, 10)
    assert found.seconds_left is not None
    assert found.state is RunState.RUNNING


def test_stages_keep_their_seconds(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        progress.stage("reading")
        progress.stage("features", steps=3)
        progress.stage("reading")
        progress.add_published(Published("v-1", True, "Promoted."))
        progress.finish(RunState.DONE, 0)
        progress.stage("afterwards")
    found = status(runs)
    assert list(found.seconds) == ["reading", "features"]
    assert (found.state, found.exit_code, found.message) == (RunState.DONE, 0, "Promoted.")
    assert [version.version for version in found.published] == ["v-1"]


def test_usage_is_measured_every_two_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[Usage] = []

    def look() -> Usage:
        looks.append(Usage(100 + len(looks), 30, 80, 0.5))
        return looks[-1]

    monkeypatch.setattr(module, "measure_usage", look)
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.001)
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        written = status(runs).updated_at
        for stage in ("reading", "features", "fitting"):
            progress.stage(stage)
        eventually(lambda: status(runs).updated_at > written)
        found = status(runs)
        assert (len(looks), found.resident_bytes) == (1, 100)
        assert (found.gpu_memory_bytes, found.gpu_memory_limit_bytes, found.gpu_utilization) == (30, 80, 0.5)
        monkeypatch.setattr(module, "_USAGE_SECONDS", 0.0)
        eventually(lambda: (status(runs).resident_bytes or 0) > 100)


def test_resumed_stage_estimates_from_its_own_steps(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        progress.stage("fine-tuning", steps=10, done=6)
        assert status(runs).step == 6
        progress.set_message("so far so good")
        progress.step(7)
        assert progress.status.seconds_left is not None
        assert progress.status.seconds_left < 1.0


def test_only_the_final_status_must_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError("disk full")

    runs = Runs(FileStore(tmp_path))
    monkeypatch.setattr(FileStore, "write", full)
    with Progress(runs, RunStatus("1-1", RunState.RUNNING)) as progress:
        progress.stage("reading")
        with pytest.raises(StoreError, match="disk full"):
            progress.finish(RunState.DONE, 0)


class Stuck(FileStore):
    """Does not answer until it is let go."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.go, self.entered = threading.Event(), threading.Event()

    def write(self, key: str, data: bytes) -> None:
        self.entered.set()
        assert self.go.wait(60)
        super().write(key, data)


def test_a_slow_store_does_not_delay_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WAIT_SECONDS", 0.01)
    store = Stuck(tmp_path)
    with Progress(Runs(store), RunStatus("1-1", RunState.RUNNING)) as progress:
        assert store.entered.wait(60)
        progress.stage("features", steps=2)
        progress.step(1)
        progress.add_published(Published("v-1", True, "Promoted."))
        store.go.set()
        progress.finish(RunState.DONE, 0)
    found = status(Runs(store))
    assert (found.state, found.step, found.message) == (RunState.DONE, 1, "Promoted."), (
        "and the last word is last"
    )


def test_status_writes_back_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WRITE_SECONDS", 0.001)
    failing, pauses = [1] * 6, []
    write, wait_for = FileStore.write, threading.Condition.wait_for

    def away(self: FileStore, key: str, data: bytes) -> None:
        if failing:
            failing.pop()
            raise StoreUnreachable("away")
        write(self, key, data)

    def watched(self: threading.Condition, predicate: Any, timeout: float | None = None) -> Any:
        if threading.current_thread().name == "status":
            pauses.append(timeout)
        return wait_for(self, predicate, timeout)

    monkeypatch.setattr(FileStore, "write", away)
    monkeypatch.setattr(threading.Condition, "wait_for", watched)
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, RunStatus("1-1", RunState.RUNNING)) as progress:
        eventually(lambda: len(failing) <= 2)
        progress.finish(RunState.DONE, 0)
    assert pauses[:4] == [0.001, 0.002, 0.004, 0.008]
    assert status(runs).state is RunState.DONE


def test_every_process_is_an_attempt(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    assert first_status(runs, "1-1").attempt == 1
    runs.write(RunStatus("1-1", RunState.PREEMPTED, attempt=1))
    assert first_status(runs, "1-1").attempt == 2
    runs.write(LaunchState("1-1", (Attempt(1, 0.0), Attempt(2, 1.0), Attempt(3, 2.0))))
    assert first_status(runs, "1-1").attempt == 3
    runs.write(RunStatus("1-1", RunState.PREEMPTED, attempt=3))
    assert first_status(runs, "1-1").attempt == 4, "the leader may count later than the process starts"
    runs.store.write("runs/1-1/checkpoints/5/state.json", b"{}")
    assert first_status(runs, "1-1").attempt == 6, "another may have died before its first status"


def test_first_status_keeps_published_versions(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    versions = (Published("v-1", True, "Promoted."), Published("v-1b", False, "Held."))
    runs.write(RunStatus("1-1", RunState.PREEMPTED, published=versions))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        assert status(runs).published == versions, "people see them while the labels are read"
        progress.restore_published(versions[:1])
        assert status(runs).published == versions[:1], "and then what the store holds"
        assert status(runs).message == "Promoted."
        progress.restore_published(())
    assert (status(runs).published, status(runs).message) == ((), "")


def test_terminal_shows_a_progress_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        progress.stage("features", steps=2)
        progress.step(1)
        assert progress._bar is not None
        assert progress._bar.tasks[0].description == "features"
