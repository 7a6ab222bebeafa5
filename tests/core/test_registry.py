"""core.registry: a version exists when its manifest does, is checked when read, and the newest table wins."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core import documents
from services.core.domain import Manifest, Project, expired_versions
from services.core.errors import CorruptVersion, NotFound, StoreError, UnknownFormat
from services.core.registry import Registry
from services.core.store.files import FileStore
from tests.support.manifests import build_manifest


class FailingStore(FileStore):
    """A disk that is full from the n-th write on."""

    def __init__(self, root: Path, writes: int) -> None:
        super().__init__(root)
        self.left = writes

    def _write_atomically(self, key: str, fill: object) -> None:
        if self.left == 0:
            raise StoreError(f"{key!r} cannot be written: No space left on device.")
        self.left -= 1
        super()._write_atomically(key, fill)  # type: ignore[arg-type]  # passed through


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "made"
    (made / "ct2").mkdir(parents=True)
    (made / "model.safetensors").write_bytes(b"weights" * 100)
    (made / "ct2" / "model.bin").write_bytes(b"small")
    (made / "ct2" / "head.json").write_bytes(b"{}")
    return made


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(FileStore(tmp_path / "store"))


def test_what_was_published_is_read_back(registry: Registry, folder: Path) -> None:
    published = registry.publish(folder, build_manifest("v-1"))
    assert registry.manifest("5-1", "v-1") == published
    assert set(published.files) == {"model.safetensors", "ct2/model.bin", "ct2/head.json"}
    assert registry.versions("5-1") == ["v-1"]
    assert registry.file("5-1", "v-1", "ct2/model.bin").read_bytes() == b"small"


def test_a_folder_of_some_files_is_the_versions_own(registry: Registry, folder: Path) -> None:
    registry.publish(folder, build_manifest("v-1"))
    found = registry.folder("5-1", "v-1", "ct2/")
    assert (found / "ct2" / "model.bin").read_bytes() == b"small"
    with pytest.raises(CorruptVersion, match="no file whose name begins"):
        registry.folder("5-1", "v-1", "onnx/")


@pytest.mark.parametrize("writes", range(4))
def test_a_disk_that_fills_up_leaves_no_version(tmp_path: Path, folder: Path, writes: int) -> None:
    registry = Registry(FailingStore(tmp_path / "store", writes))
    with pytest.raises(StoreError, match="No space left"):
        registry.publish(folder, build_manifest("v-1"))
    assert registry.versions("5-1") == []
    with pytest.raises(NotFound):
        registry.manifest("5-1", "v-1")
    assert not [path for path in (tmp_path / "store").rglob("*") if path.is_file()]


def test_a_retry_empties_the_half_version_first(registry: Registry, folder: Path) -> None:
    """What a killed attempt has left."""
    registry.store.write("projects/5-1/versions/v-1/model.safetensors.index", b"of the killed attempt")
    registry.publish(folder, build_manifest("v-1"))
    assert not [key for key in registry.store.keys("") if key.endswith(".index")]


def test_a_flipped_byte_is_refused(registry: Registry, folder: Path) -> None:
    registry.publish(folder, build_manifest("v-1"))
    path = registry.file("5-1", "v-1", "ct2/model.bin")
    path.write_bytes(b"smalL")
    with pytest.raises(CorruptVersion, match="differs from its manifest"):
        registry.file("5-1", "v-1", "ct2/model.bin")


def test_a_lost_or_unknown_file_is_refused(registry: Registry, folder: Path) -> None:
    registry.publish(folder, build_manifest("v-1"))
    registry.file("5-1", "v-1", "ct2/model.bin").unlink()
    with pytest.raises(CorruptVersion, match="is missing"):
        registry.file("5-1", "v-1", "ct2/model.bin")
    with pytest.raises(CorruptVersion, match="has no file"):
        registry.file("5-1", "v-1", "nothing")


def test_a_version_needs_a_printable_name(registry: Registry, folder: Path) -> None:
    with pytest.raises(StoreError, match="cannot name a version"):
        registry.publish(folder, build_manifest("../x"))


def test_a_deleted_version_is_gone(registry: Registry, folder: Path) -> None:
    registry.publish(folder, build_manifest("v-1"))
    registry.delete("5-1", "v-1")
    assert registry.versions("5-1") == []
    assert list(registry.store.keys("projects/")) == []


def test_projects_are_listed_by_key(registry: Registry) -> None:
    assert registry.projects() == []
    project = Project("5-1", 5, "Support", "<View/>", "abc", "2026-01-01T00:00:00Z")
    registry.write_project(project)
    registry.store.write("projects/9-9/versions/x/model.bin", b"")
    assert registry.projects() == [project]


def test_one_broken_document_hides_no_other_project_or_version(registry: Registry, folder: Path) -> None:
    project = Project("5-1", 5, "Support", "<View/>", "abc", "2026-01-01T00:00:00Z")
    registry.write_project(project)
    registry.store.write("projects/4-1/project.json", b"{")
    registry.publish(folder, build_manifest("v-1"))
    registry.store.write("projects/5-1/versions/v-0/manifest.json", b"{")
    assert registry.projects() == [project]
    assert registry.versions("5-1") == ["v-1"]


def _manifests(ages: list[float], now: float) -> list[Manifest]:
    return [
        replace(build_manifest(f"v-{number}"), created_at=now - age * 86_400)
        for number, age in enumerate(ages)
    ]


@given(st.lists(st.floats(0, 100), max_size=30), st.integers(1, 10), st.sets(st.integers(0, 29)))
def test_retention_keeps_the_newest_the_young_and_the_served(
    ages: list[float], keep: int, served: set[int]
) -> None:
    manifests = _manifests(ages, 1e9)
    kept = frozenset(f"v-{number}" for number in served)
    doomed = set(expired_versions(manifests, kept, keep, 30, 1e9))
    survivors = [found for found in manifests if found.version not in doomed]
    assert not doomed & kept
    assert len(survivors) >= min(keep, len(manifests))
    assert all(1e9 - found.created_at > 30 * 86_400 for found in manifests if found.version in doomed)


def test_a_project_keeps_what_a_later_release_stored(tmp_path: Path) -> None:
    registry = Registry(FileStore(tmp_path))
    project = Project("5-1", 5, "Support", "<View/>", "hash", "2026")
    key = "projects/5-1/project.json"
    registry.store.write(key, json.dumps({**documents.to_plain(project), "color": "red"}).encode())
    registry.write_project(replace(project, title="Help"))
    assert json.loads(registry.store.read(key)) == {
        **documents.to_plain(replace(project, title="Help")),
        "color": "red",
    }


def test_a_project_of_a_newer_format_is_not_overwritten(tmp_path: Path) -> None:
    registry = Registry(FileStore(tmp_path))
    registry.store.write("projects/5-1/project.json", b'{"format": 2}')
    with pytest.raises(UnknownFormat, match=r"projects/5-1/project.json has format 2"):
        registry.write_project(Project("5-1", 5, "Support", "<View/>", "hash", "2026"))
    assert registry.store.read("projects/5-1/project.json") == b'{"format": 2}'
