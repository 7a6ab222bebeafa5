"""A tiny base model once for all tests of the trainer, and a world for each."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from services.trainer.process.lifecycle import Stop
from tests.support.base_models import build_tiny_base
from tests.support.trainer import TrainerWorld


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_base(tmp_path_factory.mktemp("base"), spread=0.3)


@pytest.fixture(scope="session")
def encoders(tmp_path_factory: pytest.TempPathFactory, tiny: Path) -> Path:
    """The folder encoders/ after a run with the tiny base model."""
    world = TrainerWorld(tmp_path_factory.mktemp("encoders"), tiny)
    world.label(6)
    world.train(world.request())
    return world.folder / "encoders"


@pytest.fixture
def world(tmp_path: Path, tiny: Path, encoders: Path) -> TrainerWorld:
    """A world whose base model's encoder was made before."""
    shutil.copytree(encoders, tmp_path / "data" / "encoders")
    return TrainerWorld(tmp_path / "data", tiny)


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """main() in this process: it must not take the tests' signals."""
    monkeypatch.setattr(Stop, "install_handlers", lambda _: None)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "secret")
