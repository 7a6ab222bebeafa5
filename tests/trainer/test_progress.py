"""status.json of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.domain import Attempt, Launch, Published, RunState, RunStatus
from services.core.errors import StoreError
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.trainer import progress as module
from services.trainer.progress import Progress, first_status
from tests.waiting import eventually


def status(runs: Runs) -> RunStatus:
    found = runs.status("1-1")
    assert found is not None
    return found


def test_it_is_written_again_and_again_without_being_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SECONDS", 0.01)
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


def test_each_stage_keeps_its_seconds_and_the_end_is_final(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        progress.stage("reading")
        progress.stage("features", steps=3)
        progress.stage("reading")
        progress.published(Published("v-1", True, "Promoted."))
        progress.finish(RunState.DONE, 0)
        progress.stage("afterwards")
    found = status(runs)
    assert list(found.seconds) == ["reading", "features"]
    assert (found.state, found.exit_code, found.message) == (RunState.DONE, 0, "Promoted.")
    assert [version.version for version in found.published] == ["v-1"]


def test_a_resumed_stage_counts_from_where_it_was(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        progress.stage("fine-tuning", steps=10, done=6)
        assert status(runs).step == 6
        progress.say("so far so good")
        progress.step(7)
        assert progress.status.seconds_left is not None
        assert progress.status.seconds_left < 1.0


def test_a_status_that_cannot_be_written_does_not_end_the_run_but_the_last_one_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StoreError("disk full")

    runs = Runs(FileStore(tmp_path))
    monkeypatch.setattr(FileStore, "write", full)
    with Progress(runs, RunStatus("1-1", RunState.RUNNING)) as progress:
        progress.stage("reading")
        with pytest.raises(StoreError, match="disk full"):
            progress.finish(RunState.DONE, 0)


def test_every_process_is_an_attempt_of_its_own(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    assert first_status(runs, "1-1").attempt == 1
    runs.write(RunStatus("1-1", RunState.PREEMPTED, attempt=1))
    assert first_status(runs, "1-1").attempt == 2
    runs.write(Launch("1-1", (Attempt(1, 0.0), Attempt(2, 1.0), Attempt(3, 2.0))))
    assert first_status(runs, "1-1").attempt == 3


def test_the_next_process_begins_with_the_versions_of_the_last(tmp_path: Path) -> None:
    runs = Runs(FileStore(tmp_path))
    versions = (Published("v-1", True, "Promoted."), Published("v-1b", False, "Held."))
    runs.write(RunStatus("1-1", RunState.PREEMPTED, published=versions))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        assert status(runs).published == versions, "people see them while the labels are read"
        progress.found(versions[:1])
        assert status(runs).published == versions[:1], "and then what the store holds"
        assert status(runs).message == "Promoted."
        progress.found(())
    assert (status(runs).published, status(runs).message) == ((), "")


def test_a_terminal_sees_a_bar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    runs = Runs(FileStore(tmp_path))
    with Progress(runs, first_status(runs, "1-1")) as progress:
        progress.stage("features", steps=2)
        progress.step(1)
        assert progress._bar is not None
        assert progress._bar.tasks[0].description == "features"
