"""The command, against a server that answers like Label Studio, and its exit codes."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from services.core.domain import RunState
from services.core.errors import LabelStudioNotFound, LabelStudioUnreachable, StoreError
from services.core.store.files import FileStore
from services.trainer import __main__ as module
from services.trainer.__main__ import main
from services.trainer.process.lifecycle import Stop
from tests.support.base_models import TEXTS
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import (
    run_command,
    run_in_process,
    run_with_signal,
)


def test_command_trains_and_publishes(world: TrainerWorld) -> None:
    world.label(60)
    run = world.request()
    done = run_command(world, run)
    assert done.returncode == 0, done.stderr
    status = world.status(run)
    assert (status.state, status.exit_code) == (RunState.DONE, 0)
    assert [one.version for one in status.published] == ["support-1"]
    assert status.resident_bytes is None or status.resident_bytes > 50e6, "a process with torch in it"
    assert status.gpu_utilization is None or 0 <= status.gpu_utilization <= 1
    assert {"reading", "features", "fitting", "judging", "exporting", "publishing"} <= status.seconds.keys()
    words = {word for row in world.labelstudio.tasks[1].values() for word in [row["data"]["text"]]}
    assert not any(text in done.stderr for text in words), "no text of a task is logged"
    assert "secret" not in done.stderr


@pytest.mark.usefixtures("quiet")
def test_too_few_labels_are_bad_data(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.label(1)
    run = world.request()
    assert run_in_process(world, run, monkeypatch) == 65
    status = world.status(run)
    assert (status.state, status.exit_code) == (RunState.FAILED, 65)
    assert status.message


@pytest.mark.usefixtures("quiet")
def test_a_wrong_setting_is_bad_config(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.request()
    monkeypatch.setenv("LABEL_STUDIO_URL", "nonsense")
    assert run_in_process(world, run, monkeypatch) == 78
    assert "LABEL_STUDIO_URL" in world.status(run).message


@pytest.mark.usefixtures("quiet")
def test_stop_request_is_preemption(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.label(30)
    run = world.request()
    monkeypatch.setattr(module, "Stop", lambda: world.stop)
    monkeypatch.setattr(type(world.stop), "install_handlers", lambda _: None)
    world.stop.requested = True
    assert run_in_process(world, run, monkeypatch) == 75
    assert world.status(run).state is RunState.PREEMPTED


@pytest.mark.usefixtures("quiet")
def test_a_crash_is_reported_in_the_status(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    run = world.request()
    monkeypatch.setattr(module, "train", broken)
    assert run_in_process(world, run, monkeypatch) == 1
    assert world.status(run).message == (
        "The run failed in stage 'starting': it crashed. This is a bug in Fitloop: please report it with the stack trace in the "
        "run's log."
    )


@pytest.mark.usefixtures("quiet")
def test_crash_log_has_the_stack_and_no_text(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(_: object) -> None:
        text = TEXTS[0]
        try:
            int(text)
        except ValueError as error:
            raise RuntimeError(text) from error

    run = world.request()
    monkeypatch.setattr(module, "train", broken)
    assert run_in_process(world, run, monkeypatch) == 1
    output = capsys.readouterr().err
    assert TEXTS[0] not in output
    for part in (
        "RuntimeError",
        "ValueError",
        "in broken: raise RuntimeError(text) from error",
        "test_main.py",
    ):
        assert part in output


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("when", ["at once", "while its texts are read"])
def test_a_deleted_project_is_a_bad_request(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    def gone(*_: object) -> None:
        raise LabelStudioNotFound("no project 1")

    world.label(30)
    run = world.request()
    name = "project" if when == "at once" else "texts"
    monkeypatch.setattr(world.labelstudio, name, gone)
    assert run_in_process(world, run, monkeypatch) == 64
    status = world.status(run)
    assert (status.state, status.exit_code) == (RunState.FAILED, 64)
    assert "has no project 1" in status.message


@pytest.mark.usefixtures("quiet")
def test_unwritten_final_status_is_a_failure(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.request()

    def full(*_: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(module, "train", lambda _: None)
    monkeypatch.setattr(FileStore, "write", full)
    assert run_in_process(world, run, monkeypatch) == 1


@pytest.mark.usefixtures("quiet")
def test_a_missing_run_is_a_bad_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--run", f"{tmp_path.as_uri()}/runs/9-9"]) == 64
    assert "request.json is missing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("quiet")
def test_run_time_exceeded_is_a_failure(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.label(30)
    run = world.request()
    monkeypatch.setenv("FITLOOP_RUN_SECONDS", "0.000001")
    assert run_in_process(world, run, monkeypatch) == 78
    status = world.status(run)
    assert (status.state, status.exit_code) == (RunState.FAILED, 78)
    assert "FITLOOP_RUN_SECONDS" in status.message


@pytest.mark.usefixtures("quiet")
def test_unreachable_label_studio_is_preemption(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise LabelStudioUnreachable("Label Studio does not answer.")

    run = world.request()
    monkeypatch.setattr(world.labelstudio, "project", away)
    assert run_in_process(world, run, monkeypatch) == 75
    status = world.status(run)
    assert (status.state, status.message) == (RunState.PREEMPTED, "Label Studio does not answer.")


@pytest.mark.parametrize("stage", ["reading", "loading", "judging", "exporting"])
def test_sigterm_in_any_stage_is_resumable(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    world.label(30)
    run = world.request()
    done = run_with_signal(
        world, run, r"/status\.json$", says=b'"stage": "%s"' % stage.encode(), by=signal.SIGTERM
    )
    assert done.returncode == 75, done.stderr
    assert world.status(run).state is RunState.PREEMPTED
    assert world.registry.versions(world.key) == []
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")
    monkeypatch.setattr(Stop, "install_handlers", lambda _: None)
    assert run_in_process(world, run, monkeypatch) == 0
    assert world.registry.versions(world.key) == ["support-1"]
