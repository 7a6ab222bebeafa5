"""Versions of model classes, as a run publishes them."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from services.core.domain import Artefact, Manifest, Method, OwnModel, Project
from services.core.registry import Registry
from services.mlbackend.folders import PREFIX
from tests.support.manifests import build_manifest
from tests.support.model_classes import CHOICES

OWN_KEY = "5-1"


def write_own_project(registry: Registry, label_config: str = CHOICES, key: str = OWN_KEY) -> None:
    """Store the project that the versions belong to."""
    number = int(key.partition("-")[0])
    registry.write_project(Project(key, number, f"Project {number}", label_config, "hash", "2026-11-29"))


def publish_own_version(
    registry: Registry,
    version: str,
    model: str,
    files: Mapping[str, Path | str] | None = None,
    key: str = OWN_KEY,
) -> Manifest:
    """Publish a version of a class, with these files in its MODEL_DIR: texts, or copies."""
    manifest = replace(
        build_manifest(version, key, ()),
        method=Method.LABEL_STUDIO_ML,
        artefact=Artefact("label-studio-ml", "label-studio-ml", "", 0, 1.0),
        own_model=OwnModel(model),
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "report.json").write_text("{}")
        for name, content in (files or {}).items():
            path = Path(folder) / PREFIX / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.read_bytes() if isinstance(content, Path) else content.encode())
        return registry.publish(Path(folder), manifest)
