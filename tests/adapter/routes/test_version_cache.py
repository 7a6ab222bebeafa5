"""Versions are read once each: they never change."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from services.adapter.routes.version_cache import LruCache, ProjectCache, VersionCache
from services.adapter.state.documents import ProjectDocuments, PromotionResult, VersionOutcome
from services.core.errors import CorruptVersion, StoreError
from services.core.registry import Registry
from services.core.store.files import FileStore
from tests.support import sample_projects


class CountingStore(FileStore):
    """Counts what is read."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.reads: Counter[str] = Counter()

    def read(self, key: str) -> bytes:
        self.reads[key] += 1
        return super().read(key)


@pytest.fixture
def store(tmp_path: Path) -> CountingStore:
    found = CountingStore(tmp_path)
    sample_projects.publish_versions(found, sample_projects.build_versions("1-1", 3))
    found.reads.clear()
    return found


def test_newest_first_and_each_manifest_is_read_once(store: CountingStore) -> None:
    catalogue = VersionCache(Registry(store))
    for _ in range(3):
        assert [found.version for found in catalogue.manifests("1-1")] == ["shop-3", "shop-2", "shop-1"]
    assert set(store.reads.values()) == {1}


def test_a_new_version_is_found_and_a_deleted_one_is_not_shown(store: CountingStore) -> None:
    catalogue = VersionCache(Registry(store))
    catalogue.manifests("1-1")
    sample_projects.publish_versions(store, sample_projects.build_versions("1-1", 4)[3:])
    Registry(store).delete("1-1", "shop-1")
    assert [found.version for found in catalogue.manifests("1-1")] == ["shop-4", "shop-3", "shop-2"]


def test_an_incomplete_version_is_skipped_and_read_again(store: CountingStore) -> None:
    catalogue = VersionCache(Registry(store))
    key = "projects/1-1/versions/shop-2/manifest.json"
    whole = store.read(key)
    store.write(key, b"{")
    assert catalogue.manifest("1-1", "shop-2") is None
    store.delete(key)
    assert [found.version for found in catalogue.manifests("1-1")] == ["shop-3", "shop-1"]
    store.write(key, whole)
    assert catalogue.manifest("1-1", "shop-2") is not None


def test_ids_of_annotations_are_not_kept(store: CountingStore) -> None:
    assert Registry(store).manifest("1-1", "shop-1").lineage.annotation_ids
    found = VersionCache(Registry(store)).manifest("1-1", "shop-1")
    assert found is not None
    assert found.lineage.annotation_ids == ()


def test_a_report_is_checked_when_it_is_read(store: CountingStore) -> None:
    catalogue = VersionCache(Registry(store))
    assert len(catalogue.report("1-1", "shop-1").labels) == 7
    store.write("projects/1-1/versions/shop-2/report.json", b"{}")
    with pytest.raises(CorruptVersion):
        catalogue.report("1-1", "shop-2")


def test_a_verdict_is_known_once_there_is_one(store: CountingStore) -> None:
    catalogue = VersionCache(Registry(store))
    assert catalogue.outcome("1-1", "shop-3") is None
    ProjectDocuments(store, "1-1").write_outcome(VersionOutcome("shop-3", PromotionResult.HELD, "Held.", 1.0))
    found = catalogue.outcome("1-1", "shop-3")
    assert found is not None
    assert found.fate is PromotionResult.HELD


def test_what_was_not_asked_for_longest_goes_first() -> None:
    asked: list[str] = []

    def read(_: str, version: str) -> str:
        asked.append(version)
        return version

    kept: LruCache[str] = LruCache(read, 2)
    for version in ("a", "b", "a", "c", "a", "b"):
        assert kept.get("1-1", version) == version
    assert asked == ["a", "b", "c", "b"]


def test_an_error_is_not_kept() -> None:
    answers = iter([StoreError("It is away."), None])

    def read(_: str, version: str) -> str:
        if error := next(answers):
            raise error
        return version

    kept: LruCache[str] = LruCache(read, 2)
    with pytest.raises(StoreError):
        kept.get("1-1", "a")
    assert kept.get("1-1", "a") == "a"


def test_projects_with_more_versions_than_the_limit_are_read_once() -> None:
    """Going through them in order would otherwise drop each one just before it is asked for."""
    asked: list[str] = []

    def read(_: str, version: str) -> str:
        asked.append(version)
        return version

    kept = ProjectCache(read, 100)
    for _ in range(3):
        for number in range(500):
            assert kept.get("1-1", str(number)) == str(number)
    assert len(asked) == 500


def test_projects_not_asked_for_longest_go_first() -> None:
    asked: list[str] = []

    def read(project_key: str, version: str) -> str:
        asked.append(project_key)
        return version

    kept = ProjectCache(read, 2)
    for project_key in "abacab":
        kept.get(project_key, "v")
    assert asked == ["a", "b", "c", "b"]


def test_deleted_versions_are_dropped() -> None:
    asked: list[str] = []
    kept = ProjectCache(lambda _, version: asked.append(version), 9)
    for version in "ab":
        kept.get("1-1", version)
    kept.retain("1-1", ["b", "c"])
    for version in "ab":
        kept.get("1-1", version)
    assert asked == ["a", "b", "a"]
