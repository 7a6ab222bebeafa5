"""Small versions with an int8 engine, as a trainer publishes them, and the serving table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.core.domain import Artefact, Served, Serving
from services.core.registry import Registry
from services.core.serving_table import ServingTableFile
from services.trainer.data.base_model import load_base
from services.trainer.methods import Head
from tests.support.base_models import build_tiny_base
from tests.support.manifests import build_manifest
from tests.support.whole_models import write_whole_probe

KEY = "5-1"


def build_tiny_version(folder: Path) -> tuple[Path, Artefact]:
    """Build the files of a version that answers A or B."""
    made = folder / "version"
    made.mkdir(parents=True)
    base = load_base(str(build_tiny_base(folder / "base")), 32)
    weight: NDArray[np.float32] = np.random.default_rng(0).normal(0, 1, (2, 32)).astype(np.float32)
    write_whole_probe(made, base, Head(weight, np.zeros(2, np.float32)), ("A", "B"))
    (made / "oos.json").write_text("{}")
    return made, Artefact("sentence-transformers", "ct2-int8", "", 32, 1.0)


def publish_versions(registry: Registry, made: tuple[Path, Artefact], *versions: str, key: str = KEY) -> None:
    """Publish these versions of a project with the same files."""
    for version in versions:
        registry.publish(made[0], replace(build_manifest(version, key), artefact=made[1]))


def write_serving_table(registry: Registry, projects: dict[str, Served], term: int = 1) -> Serving:
    """Write the serving table of the next generation."""
    table = Serving(term, registry.serving().generation + 1, projects)
    ServingTableFile(registry.store).write(table)
    return table


def corrupt_file(registry: Registry, version: str, key: str = KEY, file: str = "ct2/model.bin") -> bytes:
    """Flip a bit of a file in the store; return the original bytes."""
    path = f"projects/{key}/versions/{version}/{file}"
    whole = registry.store.read(path)
    registry.store.write(path, whole[:-1] + bytes([whole[-1] ^ 1]))
    return whole
