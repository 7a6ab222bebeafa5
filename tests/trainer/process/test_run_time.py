"""A run's time limit."""

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


def test_zero_seconds_mean_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FITLOOP_RUN_SECONDS", "0")
    stop = Stop()
    stop.limit_to(TrainingSettings().run_seconds)
    assert stop.reason() is None


def test_run_time_ends_the_second_method_only(world: TrainerWorld) -> None:
    world.label(1_000)
    run = world.request(Method.AUTO, **LONG)
    with serve_label_studio(world) as url:
        done = _ended(trainer_command(world, run), trainer_environment(url, FITLOOP_RUN_SECONDS="60"))
    status = world.status(run)
    assert (done, status.state) == (0, RunState.DONE), status.message
    assert world.registry.versions(world.key) == ["support-1"]
    assert "did not finish within its 60 s" in status.message


def test_rank_0s_clock_counts_for_all(world: TrainerWorld) -> None:
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


def test_sigterm_before_rendezvous_preempts() -> None:
    with pytest.raises(Preempted):
        ranks._on_sigterm(signal.SIGTERM, None)


def _ended(line: list[str], given: dict[str, str]) -> int:
    return subprocess.run(line, env=given, capture_output=True, check=False, timeout=300).returncode
