"""What of the store may be deleted, and what never is."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from services.adapter.training.survey import Leftover, remove, survey
from services.core import documents
from services.core.domain import (
    EMBED,
    Attempt,
    LaunchState,
    Parameters,
    Project,
    RunRequest,
    RunState,
    Served,
    Serving,
    Snapshot,
)
from services.core.errors import StoreUnreachable
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.serving_table import ServingTableFile
from services.core.settings import StorageSettings
from services.core.store.files import FileStore
from tests.support.manifests import build_manifest

DAY = 86_400.0


class StoreWorld:
    """A store with one project."""

    def __init__(self, folder: Path) -> None:
        self.store = FileStore(folder / "store")
        self.folder = folder
        self.registry, self.runs = Registry(self.store), Runs(self.store)
        self.project(5, "5-1", "2026-01-01")

    def project(self, number: int, key: str, created: str) -> None:
        self.registry.write_project(Project(key, number, "Support", "<View/>", "h", created))

    def version(self, name: str, days: float) -> None:
        files = self.folder / name
        files.mkdir()
        (files / "model.bin").write_bytes(b"x" * 200_000)
        self.registry.publish(files, replace(build_manifest(name), created_at=time.time() - days * DAY))

    def run(self, run: str, days: float, outcome: RunState | None = RunState.DONE, key: str = "5-1") -> None:
        then = time.time() - days * DAY
        self.runs.write(RunRequest(run, key, 5, "labels", Parameters(), then))
        self.runs.write(LaunchState(run, (Attempt(1, then, then, 0),), outcome))
        self.runs.write_snapshot(run, Snapshot({"1": "a"}, "h", ("a",), then))
        self.store.write(f"runs/{run}/checkpoints/1/model.safetensors", b"x")

    def age(self, prefix: str, days: float) -> None:
        for key in self.store.keys(prefix):
            os.utime(self.store.local(key), (time.time() - days * DAY,) * 2)

    def leftovers(self, key: str = "5-1") -> list[Leftover]:
        found = survey(self.store, StorageSettings(keep_versions=1), time.time())
        return [one for stored in found if stored.project == key for one in stored.leftovers]

    def collect(self) -> list[str]:
        """Delete all leftovers; return the reasons for which some were kept."""
        return [kept for one in self.leftovers() if (kept := remove(self.store, one, time.time()))]


@pytest.fixture
def world(tmp_path: Path) -> StoreWorld:
    return StoreWorld(tmp_path)


def test_old_versions_are_found_unless_served(world: StoreWorld) -> None:
    for number, days in enumerate((50, 49, 48, 47, 46, 10)):
        world.version(f"v-{number}", days)
    ServingTableFile(world.registry.store).write(
        Serving(1, 1, {"5-1": Served(current="v-1", previous="v-2", target="v-3")})
    )
    before = list(world.store.keys())
    first, second = world.leftovers()
    assert (first.name, first.why) == ("version v-0", "beyond the newest 1, and old")
    assert (first.version, first.keys[0]) == ("v-0", "projects/5-1/versions/v-0/manifest.json")
    assert first.size > 200_000
    assert second.name == "version v-4"
    assert list(world.store.keys()) == before
    assert world.collect() == []
    assert world.registry.versions("5-1") == ["v-1", "v-2", "v-3", "v-5"]
    assert world.leftovers() == []


def test_an_incomplete_version_is_deleted_after_a_day(world: StoreWorld) -> None:
    for name in ("v-1", "v-10", "v-2"):
        world.store.write(f"projects/5-1/versions/{name}/model.bin", b"x")
    world.age("projects/5-1/versions/v-1/", 1.1)
    world.age("projects/5-1/versions/v-2/", 1.1)
    world.store.write("projects/5-1/versions/v-2/ct2.bin", b"still being written")
    assert [one.name for one in world.leftovers()] == ["incomplete version v-1"]
    world.collect()
    assert world.store.folders("projects/5-1/versions/") == ["v-10", "v-2"]


def test_a_publication_that_goes_on_is_kept(world: StoreWorld) -> None:
    world.store.write("projects/5-1/versions/v-1/model.bin", b"x")
    world.age("projects/5-1/versions/v-1/", 2)
    (leftover,) = world.leftovers()
    world.store.write("projects/5-1/versions/v-1/model.bin", b"by the run's next process")
    assert remove(world.store, leftover, time.time()) == "it is being published"
    assert world.store.folders("projects/5-1/versions/") == ["v-1"]


def test_a_version_with_an_unreadable_manifest_is_kept(world: StoreWorld) -> None:
    world.store.write("projects/5-1/versions/v-1/manifest.json", b"{")
    world.store.write("projects/5-1/versions/v-2/manifest.json", b'{"format": 2}')
    world.age("projects/5-1/", 100)
    assert world.leftovers() == []


def test_old_runs_are_deleted_except_the_last_and_the_baseline(world: StoreWorld) -> None:
    world.run("5-8", 120)
    world.run("5-9", 110)
    world.run("5-10", 100, RunState.FAILED)
    world.run("5-11", 100, None)
    names = [one.name for one in world.leftovers()]
    assert names == ["run 5-8", "checkpoints of run 5-9", "checkpoints of run 5-10"]
    world.collect()
    assert world.runs.names(5) == ["5-9", "5-10", "5-11"]
    assert [run for run in world.runs.names(5) if list(world.store.keys(f"runs/{run}/checkpoints/"))] == [
        "5-11"
    ]


def test_runs_that_computed_features_are_no_baseline_and_the_last_one_stays(world: StoreWorld) -> None:
    world.run("5-8", 120)
    world.run("5-9", 110, RunState.FAILED)
    for number in (1, 2, 3):
        run = f"5-embed-{number}"
        world.runs.write(RunRequest(run, "5-1", 5, "added", Parameters(), time.time(), kind=EMBED))
        world.runs.write(LaunchState(run, (), RunState.DONE))
    names = [one.name for one in world.leftovers() if "checkpoints" not in one.name]
    assert names == ["run 5-embed-1", "run 5-embed-2"]
    world.collect()
    assert world.runs.names(5) == ["5-8", "5-9"]
    assert world.runs.embed_names(5) == ["5-embed-3"]


def test_a_runs_request_is_deleted_first(world: StoreWorld) -> None:
    world.run("5-1", 120)
    world.run("5-2", 100)
    assert world.leftovers()[0].keys[0] == "runs/5-1/request.json"


def test_orphaned_projects_are_listed_without_leftovers(world: StoreWorld) -> None:
    world.project(5, "5-2", "2026-02-01")
    world.version("v-1", 100)
    world.version("v-2", 99)
    world.store.write("projects/7-1/versions/v-1/model.bin", b"x")
    world.age("projects/7-1/", 100)
    found = {one.project: one for one in survey(world.store, StorageSettings(keep_versions=1), time.time())}
    assert found["5-1"].orphaned == "Label Studio has since given its id 5 to another project"
    assert found["7-1"].orphaned == "its project.json is missing or unreadable"
    assert [one.leftovers for one in found.values()] == [(), (), ()]


def test_one_project_can_be_surveyed_alone(world: StoreWorld) -> None:
    world.project(51, "51-1", "2026-01-01")
    world.run("51-1", 120, key="51-1")
    world.run("5-1", 120)
    world.run("5-2", 120)
    (stored,) = survey(world.store, StorageSettings(), time.time(), 5)
    assert (stored.project, [one.name for one in stored.leftovers]) == (
        "5-1",
        ["run 5-1", "checkpoints of run 5-2"],
    )


def test_unreadable_runs_are_kept(world: StoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    world.run("5-1", 120)
    world.run("5-2", 110)
    world.store.write("runs/5-1/request.json", b"{")
    world.store.write("runs/.check-1", b"")
    world.store.write("runs/other/file", documents.dump(world.registry.projects()[0]))
    world.collect()
    assert world.runs.names(5) == ["5-1", "5-2"]

    def busy(*_: object) -> None:
        raise StoreUnreachable("The storage is busy.")

    monkeypatch.setattr(Runs, "request", busy)
    with pytest.raises(StoreUnreachable):
        world.leftovers()
