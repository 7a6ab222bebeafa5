"""A run's own time: what is left out when it is over, and who looks at the clock."""

from __future__ import annotations

import signal
import subprocess

import pytest

from services.core.domain import Method, RunState
from services.core.errors import Preempted
from services.core.settings import TrainingSettings
from services.trainer import ranks
from services.trainer.process.lifecycle import Stop
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import serve_label_studio, trainer_command, trainer_environment

LONG = {"budget_seconds": 1e6, "num_train_epochs": 1e4}


def test_no_seconds_are_as_many_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_RUN_SECONDS", "0")
    stop = Stop()
    stop.limit_to(TrainingSettings().run_seconds)
    stop.check()


def test_the_second_method_of_auto_is_given_up_and_its_first_version_stands(world: TrainerWorld) -> None:
    world.label(300)
    run = world.request(Method.AUTO, **LONG)
    with serve_label_studio(world) as url:
        done = _ended(trainer_command(world, run), trainer_environment(url, FITLOOP_RUN_SECONDS="30"))
    status = world.status(run)
    assert (done, status.state) == (0, RunState.DONE), status.message
    assert world.registry.versions(world.key) == ["support-1"]
    assert "did not finish within its 30 s" in status.message


def test_of_several_processes_the_first_ones_clock_is_that_of_all(world: TrainerWorld) -> None:
    """A clock that is ahead must not end the others' run as if it had been done."""
    world.label(30)
    run = world.request(Method.FINETUNE, **LONG)
    one = trainer_command(world, run)
    several = [*one[:3], "services.trainer.ranks", "--processes", "2", *one[4:]]
    with serve_label_studio(world) as url:
        code = _ended(several, trainer_environment(url, FITLOOP_RUN_SECONDS="12"))
    status = world.status(run)
    assert (code, status.state, status.exit_code) == (78, RunState.FAILED, 78), status.message
    assert "FITLOOP_RUN_SECONDS" in status.message


def test_processes_that_have_not_met_end_at_once() -> None:
    with pytest.raises(Preempted):
        ranks._on_sigterm(signal.SIGTERM, None)


def _ended(line: list[str], given: dict[str, str]) -> int:
    return subprocess.run(line, env=given, capture_output=True, check=False, timeout=120).returncode
