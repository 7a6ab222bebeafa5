"""log.txt, written by the run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from services.core.errors import StoreError
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.trainer.process.log_tail import LINES, LogTail
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import run_in_process


def log_of(folder: Path) -> list[str]:
    return Runs(FileStore(folder)).log("1-1").splitlines()


def test_keeps_lines_of_an_earlier_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = Runs(FileStore(tmp_path))
    runs.store.write("runs/1-1/log.txt", b"from before\n")
    printed = LogTail(runs, "1-1")
    with printed.capturing():
        sys.stderr.write("one\ntw")
        sys.stderr.write("o\nhalf a bar\rthe bar\r\nnot yet at its end")
        printed.flush(now=True)
        assert log_of(tmp_path) == ["from before", "one", "two", "the bar"]
        sys.stderr.write("\n" + "x\n" * 2 * LINES)
        printed.flush(now=True)
    sys.stderr.write("afterwards\n")
    printed.flush(now=True)
    assert log_of(tmp_path) == ["x"] * LINES
    assert capsys.readouterr().err.startswith("one\ntwo\n"), "stderr says it as well"


def test_flushes_new_lines_every_few_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 100.0, 101.0, 104.0, 104.0])
    monkeypatch.setattr("services.trainer.process.log_tail.time.monotonic", lambda: next(clock))
    printed = LogTail(Runs(FileStore(tmp_path)), "1-1")
    printed.flush()
    assert log_of(tmp_path) == [], "nothing was said"
    printed.feed("a\n")
    printed.flush()
    printed.feed("b\n")
    printed.flush()
    assert log_of(tmp_path) == ["a"]
    printed.flush()
    assert log_of(tmp_path) == ["a", "b"]


def test_failed_flush_keeps_the_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = LogTail(Runs(FileStore(tmp_path)), "1-1")
    printed.feed("a\n")
    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "write", _full)
        with pytest.raises(StoreError):
            printed.flush(now=True)
    printed.flush(now=True)
    assert log_of(tmp_path) == ["a"]


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("kept", [True, False])
def test_log_is_kept_if_requested(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    world.label(30)
    run = world.request()
    monkeypatch.setenv("FITLOOP_KEEP_LOG", str(kept).lower())
    assert run_in_process(world, run, monkeypatch) == 0
    output = world.runs.log(run)
    assert ("published" in output) == kept
    assert not any(row["data"]["text"] in output for row in world.labelstudio.tasks[1].values())


def _full(*_: object) -> None:
    raise StoreError("disk full")
