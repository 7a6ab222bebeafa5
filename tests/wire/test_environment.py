"""From an environment variable to its effect: the names known from Label Studio's example backends.

WORKERS and THREADS are in tests/engine/test_model.py and tests/embedded/test_inference.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from services.core.domain import Manifest, RunRequest
from services.core.settings import GROUPS, Settings, variables
from services.core.telemetry.logs import configure
from tests.support import app, controller
from tests.support.base_models import build_tiny_base
from tests.support.trainer import TrainerWorld

FINETUNE = {
    "METHOD": "finetune",
    "NUM_TRAIN_EPOCHS": "1",
    "LEARNING_RATE": "1e-3",
    "WEIGHT_DECAY": "0",
    "FINETUNED_MODEL_NAME": "usual",
    "FITLOOP_MAX_LENGTH": "32",
    "FITLOOP_TRAINING_BUDGET_SECONDS": "0.001",  # one fit
}


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for group in GROUPS.values():
        for name in group.model_fields:
            for variable in variables(group, name):
                monkeypatch.delenv(variable, raising=False)


@dataclass(frozen=True, slots=True)
class Trained:
    """What a run published, and what its optimiser did."""

    manifest: Manifest
    weights: dict[str, Any]
    steps: int
    decays: frozenset[float]

    def has_the_weights_of(self, other: Trained) -> bool:
        return all((self.weights[name] == other.weights[name]).all() for name in other.weights)


Train = Callable[..., Trained]


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("bases")
    return build_tiny_base(folder / "one", seed=0), build_tiny_base(folder / "two", seed=1)


@pytest.fixture
def train(tmp_path: Path, bases: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Train:
    """Fine-tune on the same 30 texts, with the parameters from the environment."""

    def run(**environment: str) -> Trained:
        for variable, value in ({"BASELINE_MODEL_NAME": str(bases[0])} | FINETUNE | environment).items():
            monkeypatch.setenv(variable, value)
        return _run(tmp_path / f"data-{len(list(tmp_path.iterdir()))}", bases[0])

    return run


def _run(folder: Path, base: Path) -> Trained:
    world = TrainerWorld(folder, base)
    world.label(30)
    name = world.runs.next_name(1)
    world.runs.write(RunRequest(name, world.key, 1, "test", Settings.load().training.parameters(), 1.0))
    steps: list[int] = []
    decays: set[float] = set()

    def seen(optimiser: torch.optim.Optimizer, *_: object) -> None:
        steps.append(1)
        decays.update(group["weight_decay"] for group in optimiser.param_groups)

    hook = register_optimizer_step_post_hook(seen)
    try:
        world.train(name)
    finally:
        hook.remove()
    (version,) = world.registry.versions(world.key)
    weights = world.weights(version)
    return Trained(world.manifest(version), weights, len(steps), frozenset(decays))


def _other_base(usual: Trained, other: Trained) -> None:
    assert other.manifest.lineage.base_digest != usual.manifest.lineage.base_digest
    assert not other.has_the_weights_of(usual)


def _larger_steps(usual: Trained, other: Trained) -> None:
    assert other.steps == usual.steps
    assert not other.has_the_weights_of(usual)


def _more_steps(usual: Trained, other: Trained) -> None:
    assert other.steps == 3 * usual.steps


def _decay(usual: Trained, other: Trained) -> None:
    assert usual.decays == frozenset({0.0})
    assert other.decays == frozenset({0.0, 0.5})  # biases and norms never decay
    assert not other.has_the_weights_of(usual)


def _name(usual: Trained, other: Trained) -> None:
    assert (usual.manifest.version, other.manifest.version) == ("usual-1", "mine-1")
    assert other.has_the_weights_of(usual)


@pytest.mark.parametrize(
    ("variable", "value", "effect"),
    [
        ("BASELINE_MODEL_NAME", "two", _other_base),
        ("LEARNING_RATE", "1e-2", _larger_steps),
        ("NUM_TRAIN_EPOCHS", "3", _more_steps),
        ("WEIGHT_DECAY", "0.5", _decay),
        ("FINETUNED_MODEL_NAME", "mine", _name),
    ],
)
def test_a_variable_changes_the_fine_tune(
    train: Train,
    bases: tuple[Path, Path],
    variable: str,
    value: str,
    effect: Callable[[Trained, Trained], None],
) -> None:
    usual = train()
    effect(usual, train(**{variable: str(bases[1]) if value == "two" else value}))


def test_run_parameters_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in FINETUNE.items():
        monkeypatch.setenv(variable, value)
    world = controller.ControllerWorld(Settings.load())
    world.connect()
    world.label_studio.label_many(12)
    world.settle()
    (request,) = world.requests()
    assert request.parameters == replace(Settings.load().training.parameters(), control="label")


@pytest.mark.parametrize("updates", [3, 7])
def test_start_training_each_n_updates_sets_the_trigger(
    monkeypatch: pytest.MonkeyPatch, updates: int
) -> None:
    monkeypatch.setenv("START_TRAINING_EACH_N_UPDATES", str(updates))
    world = controller.ControllerWorld(Settings.load())
    world.connect()
    world.label_studio.label_many(12)
    world.settle()
    world.complete_run("1-1")
    world.label_studio.label_many(updates - 1)
    world.settle()
    assert len(world.requests()) == 1
    world.label_studio.label_many(1)
    world.settle()
    assert len(world.requests()) == 2


async def test_basic_auth_requires_user_and_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with app.AppWorld(tmp_path, Settings.load().auth) as world:
        local = {"Host": "localhost"}  # other names are refused where there is no password
        assert (await world.client.get("/api/projects", headers=local)).status_code == 200
    monkeypatch.setenv("BASIC_AUTH_USER", "ann")
    monkeypatch.setenv("BASIC_AUTH_PASS", "secret")
    async with app.AppWorld(tmp_path, Settings.load().auth) as world:
        for pair, status in (
            (None, 401),
            (("ann", "other"), 401),
            (("bob", "secret"), 401),
            (("ann", "secret"), 200),
        ):
            auth = httpx.BasicAuth(*pair) if pair else None
            assert (await world.client.get("/api/projects", auth=auth)).status_code == status, pair


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("DEBUG", ["debug", "info", "warning", "error"]),
        ("INFO", ["info", "warning", "error"]),
        ("WARNING", ["warning", "error"]),
        ("ERROR", ["error"]),
    ],
)
def test_log_level_filters_logs(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], level: str, written: list[str]
) -> None:
    monkeypatch.setenv("LOG_LEVEL", level)
    configure(Settings.load().logging)
    log = structlog.get_logger("services.anywhere")
    for word in ("debug", "info", "warning", "error"):
        getattr(log, word)(f"line-{word}")
    seen = capsys.readouterr().err
    assert [word for word in ("debug", "info", "warning", "error") if f"line-{word}" in seen] == written
