"""A registry in a folder with small versions of two projects, and a predictor's manager over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.core.domain import Artefact
from services.core.registry import Registry
from services.core.serving_table import ServingTableReader
from services.core.settings import ServingSettings
from services.core.store.files import FileStore
from services.predictor.crashes import CrashGuard
from services.predictor.inference import VersionInference
from services.predictor.manager import ModelManager
from tests.support.inference import local_inference
from tests.support.versions import KEY, build_tiny_version, publish_versions

BuildManager = Callable[..., ModelManager]


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Artefact]:
    return build_tiny_version(tmp_path_factory.mktemp("made"))


@pytest.fixture
def registry(tmp_path: Path, made: tuple[Path, Artefact]) -> Registry:
    """Versions v-1, v-2, v-3 of project 5, w-1 of project 6."""
    found = Registry(FileStore(tmp_path / "store"))
    publish_versions(found, made, "v-1", "v-2", "v-3")
    publish_versions(found, made, "w-1", key="6-1")
    assert KEY == "5-1"
    return found


@pytest.fixture
def build_manager(registry: Registry, tmp_path: Path) -> Iterator[BuildManager]:
    """Return a builder of managers, given the rollout `mode` and serving settings."""
    made: list[VersionInference] = []

    def make(mode: str = "reload", **settings: object) -> ModelManager:
        serving = ServingSettings(workers=1, **settings)  # type: ignore[arg-type]  # by name, for tests
        made.append(local_inference(registry, serving, CrashGuard(tmp_path / "crashes").guard))
        return ModelManager(made[-1], ServingTableReader(registry.store), mode)  # type: ignore[arg-type]  # one of two words

    yield make
    for inference in made:
        inference.close()
