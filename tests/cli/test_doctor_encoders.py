"""`fitloop doctor`: each version finds its encoder, and one that does not is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.adapter.state.project_state import EncoderReferences, ProjectStateFile
from services.cli.checks import Context, Verdict, run_check
from services.cli.checks.encoders import ENCODERS, encoders
from services.core.domain import Project, Served
from services.core.encoders import Encoders
from services.core.registry import Registry
from services.core.store.files import FileStore
from tests.support.doctor import build_context
from tests.support.encoders import publish_head, publish_stub_encoder
from tests.support.versions import write_serving_table

DIGEST = "ab" * 32


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """A store with version head-1 of project 5, which serves it."""
    registry = Registry(FileStore(tmp_path))
    registry.write_project(Project("5-1", 5, "Support", "<View/>", "h", "2026-01-01"))
    publish_stub_encoder(registry, DIGEST, "minilm")
    publish_head(registry, DIGEST, "head-1")
    write_serving_table(registry, {"5-1": Served("head-1")})
    return registry


@pytest.fixture
def known(tmp_path: Path, registry: Registry) -> Context:
    assert registry.versions("5-1") == ["head-1"]
    return build_context(tmp_path)


def sweep(registry: Registry, *unreadable: str, **versions: str) -> None:
    """Note what a sweep has found."""
    file = ProjectStateFile(registry.store, "5-1")
    file.update(encoders=EncoderReferences(1.0, versions, unreadable))


def test_encoders_are_listed_with_their_sizes(known: Context, registry: Registry) -> None:
    publish_stub_encoder(registry, "cd" * 32, "bge")
    found = run_check(ENCODERS, known)
    assert found.verdict is Verdict.OK, found.message
    assert "2 in the bucket, 0.0 MB: abababababab (minilm, 0.0 MB, 1 versions)" in found.message
    assert found.message.endswith("1 of them no version needs.")


@pytest.mark.parametrize("swept", [False, True], ids=["from manifests", "from a sweep"])
def test_a_deleted_encoder_is_named_with_its_versions(
    known: Context, registry: Registry, *, swept: bool
) -> None:
    if swept:
        sweep(registry, **{"head-0": DIGEST})
    Encoders(registry.store).delete(DIGEST)
    found = encoders(known)
    assert found.verdict is Verdict.FAIL
    assert "encoder abababababab is not in the bucket" in found.message
    assert "5-1/head-1" in found.message
    assert ("5-1/head-0" in found.message) is swept
    assert "Restore the folder from a backup" in found.advice


@pytest.mark.parametrize("damage", [None, b"half", b"Weights"], ids=["missing", "truncated", "flipped"])
def test_a_damaged_encoder_is_named(known: Context, registry: Registry, damage: bytes | None) -> None:
    key = f"encoders/{DIGEST}/model.safetensors"
    if damage is None:
        registry.store.delete(key)
    else:
        registry.store.write(key, damage)
    found = encoders(known)
    assert found.verdict is Verdict.FAIL
    assert "'model.safetensors'" in found.message
    assert "(needed by 5-1/head-1)" in found.message


def test_an_unreadable_manifest_is_a_warning(known: Context, registry: Registry) -> None:
    registry.store.write("projects/5-1/versions/odd/manifest.json", b"{")
    found = encoders(known)
    assert found.verdict is Verdict.WARN
    assert "manifest of 5-1/odd cannot be read, so no encoder is ever deleted" in found.message


def test_a_store_without_encoders_is_fine(tmp_path: Path) -> None:
    empty = build_context(tmp_path / "empty")
    assert encoders(empty).message == "There is no encoder yet, and no version needs one."
    assert encoders(replace(empty)).verdict is Verdict.OK
