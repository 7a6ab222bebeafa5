"""A run by several processes: the same model as by one, one writer, and the exit code of the first failure."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from services.core.domain import Method, RunState, RunStatus
from services.core.errors import BadConfig
from services.trainer.ranks import Topology, launch_config, main, shell_exit_code
from tests.support.base_models import build_tiny_base
from tests.support.label_sets import allow_several, label_sets
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import run_in_process, serve_label_studio, trainer_environment
from tests.support.waiting import eventually

pytestmark = pytest.mark.slow
FINE = {"budget_seconds": 1e6, "num_train_epochs": 3.0, "learning_rate": 5e-3}


def together(
    world: TrainerWorld, url: str, run: str, processes: int = 2, **more: str
) -> subprocess.Popen[str]:
    """The run's wrapper, as a pod starts it."""
    command = [sys.executable, "-P", "-m", "services.trainer.ranks", "--processes", str(processes), "--"]
    given = trainer_environment(url, **more)
    return subprocess.Popen(
        [*command, "--run", f"{world.store.url}/runs/{run}"], env=given, stderr=subprocess.PIPE, text=True
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    _, actual = process.communicate(timeout=120)
    return process.returncode, actual


@pytest.fixture
def still(tmp_path: Path) -> TrainerWorld:
    """A world whose base model drops nothing out, so that each process computes the same as all."""
    base = build_tiny_base(tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config |= {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    (base / "config.json").write_text(json.dumps(config))
    return TrainerWorld(tmp_path / "data", base)


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("several", [False, True], ids=["one label a text", "several"])
def test_two_processes_train_the_same_model_as_one(
    still: TrainerWorld, monkeypatch: pytest.MonkeyPatch, *, several: bool
) -> None:
    if several:
        label_sets(allow_several(still), 61)
    else:
        still.label(61)
    alone, shared = still.request(Method.FINETUNE, **FINE), still.request(Method.FINETUNE, **FINE)
    assert run_in_process(still, alone, monkeypatch) == 0
    with serve_label_studio(still) as url:
        code, actual = ended(together(still, url, shared, FITLOOP_KEEP_LOG="true"))
    assert code == 0, actual
    versions = ("support-1", "support-2")
    before, after = (still.registry.out_of_sample(still.key, name).answers for name in versions)
    assert before.keys() == after.keys()
    for key, given in before.items():
        assert np.abs(np.array(given) - np.array(after[key])).max() < 1e-3
    weights = [still.weights(name) for name in versions]
    for name, tensor in weights[0].items():
        if not name.endswith(
            "key.bias"
        ):  # changes no answer: its gradient is 0 but for noise, which AdamW enlarges
            np.testing.assert_allclose(tensor, weights[1][name], atol=1e-3, err_msg=name)
    assert still.status(shared).state is RunState.DONE
    assert not list(still.store.keys(f"runs/{shared}/checkpoints/"))
    log = still.runs.log(shared)
    assert '"rank": 0' in log
    assert '"rank": 1' not in log, "one process writes"


def test_several_processes_resume_from_a_checkpoint(world: TrainerWorld) -> None:
    world.label(60)
    run = world.request(Method.FINETUNE, budget_seconds=600.0, num_train_epochs=100.0)
    with serve_label_studio(world) as url:
        process = together(world, url, run)
        eventually(lambda: _steps(world, run) > 3)
        process.send_signal(signal.SIGTERM)
        code, actual = ended(process)
        assert code == 75, actual
        assert world.status(run).state is RunState.PREEMPTED
        assert list(world.store.keys(f"runs/{run}/checkpoints/"))
        code, actual = ended(together(world, url, run))
    assert code == 0, actual
    assert world.manifest("support-1").lineage.resumed_from


@pytest.mark.parametrize(("code", "texts", "more"), [(65, 1, {}), (78, 30, {"FITLOOP_LOG_FORMAT": "x"})])
def test_exit_code_is_that_of_the_failed_process(
    world: TrainerWorld, code: int, texts: int, more: dict[str, str]
) -> None:
    world.label(texts)
    run = world.request()
    with serve_label_studio(world) as url:
        found, actual = ended(together(world, url, run, 2, **more))
    assert found == code, actual


def test_a_killed_process_ends_all(world: TrainerWorld) -> None:
    world.label(60)
    run = world.request(Method.FINETUNE, budget_seconds=600.0, num_train_epochs=1_000.0)
    with serve_label_studio(world) as url:
        process = together(world, url, run)
        eventually(lambda: _steps(world, run) > 3)
        os.kill(_process_of_rank(process.pid, 1), signal.SIGKILL)
        code, actual = ended(process)
    assert code == 137, actual
    assert world.status(run).state is RunState.PREEMPTED
    assert list(world.store.keys(f"runs/{run}/checkpoints/"))


def test_auto_by_two_processes(world: TrainerWorld) -> None:
    world.label(1_000)
    run = world.request(Method.AUTO, budget_seconds=1e6, num_train_epochs=1.0, learning_rate=5e-3)
    with serve_label_studio(world) as url:
        code, actual = ended(together(world, url, run))
    assert code == 0, actual
    assert "support-1" in world.registry.versions(world.key)
    assert "Fine-tuning" in world.status(run).message or len(world.status(run).published) == 2


def test_a_done_run_is_not_launched(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    run = world.request()
    world.runs.write(RunStatus(run, RunState.DONE))
    monkeypatch.setenv("FITLOOP_PODS", "2")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("FITLOOP_RENDEZVOUS", "pod-0.trainers:29500")
    assert main(["--run", f"{world.store.url}/runs/{run}"]) == 0


def test_one_process_becomes_the_trainer(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[list[str]] = []

    def execv(_: str, arguments: list[str]) -> None:
        called.append(arguments[1:])
        raise BadConfig("here it would go on")

    monkeypatch.setattr(os, "execv", execv)
    assert main(["--", "--run", "file:///a/runs/1-1", "--keep-log"]) == 78
    assert called == [["-P", "-m", "services.trainer", "--run", "file:///a/runs/1-1", "--keep-log"]]


@pytest.mark.parametrize("own_model", [False, True])
@pytest.mark.parametrize("pod", [0, 1])
def test_features_and_classes_take_one_process(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch, pod: int, own_model: bool
) -> None:
    started = []

    def execv(_program: str, arguments: list[str]) -> None:
        started.append(arguments[1:])
        raise SystemExit(0)

    monkeypatch.setattr(os, "execv", execv)
    run = world.request(Method.LABEL_STUDIO_ML, model="a:B") if own_model else world.request_embed()
    url = f"{world.store.url}/runs/{run}"
    given = [
        "--processes",
        "2",
        "--pods",
        "2",
        "--rank-of-pod",
        str(pod),
        "--rendezvous",
        "h:1",
        "--run",
        url,
    ]
    if pod:
        assert main(given) == 0
    else:
        with pytest.raises(SystemExit):
            main(given)
    assert started == ([] if pod else [["-P", "-m", "services.trainer", "--run", url]])


@pytest.mark.parametrize(
    ("layout", "actual"),
    [
        (Topology(0, 1, 0, ""), "There cannot be"),
        (Topology(1, 2, 2, "a:1"), "There cannot be"),
        (Topology(1, 2, 0, ""), "is not a host:port"),
    ],
)
def test_inconsistent_topologies_are_bad_config(layout: Topology, actual: str) -> None:
    with pytest.raises(BadConfig, match=actual):
        layout.check()


def test_rendezvous_is_at_pod_0_or_a_free_port() -> None:
    several = launch_config(Topology(2, 3, 1, "pod-0.trainers:29500"), "file:///a/runs/1-1")
    assert (several.rdzv_endpoint, several.rdzv_configs["rank"]) == ("pod-0.trainers:29500", 1)
    assert (several.min_nodes, several.max_nodes, several.nproc_per_node) == (3, 3, 2)
    assert launch_config(Topology(2, 1, 0, ""), "file:///a/runs/1-1").rdzv_endpoint == "localhost:0"


def test_signals_become_shell_exit_codes() -> None:
    assert [shell_exit_code(code) for code in (-9, -15, 65, 0)] == [137, 143, 65, 0]


def _steps(world: TrainerWorld, run: str) -> int:
    status = world.runs.status(run)
    return status.step if status is not None and status.stage.startswith("fine-tuning") else 0


def _process_of_rank(parent: int, rank: int) -> int:
    """The child of `parent` with that rank in its environment."""
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    wanted = f"RANK={rank}".encode()
    return next(
        int(one) for one in children if wanted in Path(f"/proc/{one}/environ").read_bytes().split(b"\0")
    )
