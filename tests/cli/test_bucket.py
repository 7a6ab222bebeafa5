"""`fitloop gc` deletes only what is no longer needed; `fitloop models push` uploads a base model whole or refuses it."""

from __future__ import annotations

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from services.core import documents
from services.core.domain import (
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
from services.core.store.files import FileStore
from tests.support.manifests import build_manifest
from tests.support.terminal import Terminal

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


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StoreWorld:
    found = StoreWorld(tmp_path)
    monkeypatch.setenv("FITLOOP_STORE", found.store.url)
    monkeypatch.setenv("FITLOOP_KEEP_VERSIONS", "1")
    return found


def test_old_versions_are_deleted_unless_served(world: StoreWorld, terminal: Terminal) -> None:
    for number, days in enumerate((50, 49, 48, 47, 46, 10)):
        world.version(f"v-{number}", days)
    ServingTableFile(world.registry.store).write(
        Serving(1, 1, {"5-1": Served(current="v-1", previous="v-2", target="v-3")})
    )
    before = list(world.store.keys())
    _, out, _ = terminal.run("gc", "--dry-run")
    assert "would delete: version v-0, 0.2 MB (beyond the newest 1, and old)" in out
    assert "0.4 MB would be freed." in out
    assert list(world.store.keys()) == before
    _, out, _ = terminal.run("gc")
    assert "  deleting: version v-4" in out
    assert world.registry.versions("5-1") == ["v-1", "v-2", "v-3", "v-5"]
    assert "0.0 MB freed." in terminal.run("gc")[1]


def test_an_incomplete_version_is_deleted_after_a_day(world: StoreWorld, terminal: Terminal) -> None:
    for name in ("v-1", "v-10", "v-2"):
        world.store.write(f"projects/5-1/versions/{name}/model.bin", b"x")
    world.age("projects/5-1/versions/v-1/", 1.1)
    world.age("projects/5-1/versions/v-2/", 1.1)
    world.store.write("projects/5-1/versions/v-2/ct2.bin", b"still being written")
    assert "incomplete version v-1," in terminal.run("gc")[1]
    assert world.store.folders("projects/5-1/versions/") == ["v-10", "v-2"]


def test_a_version_with_a_broken_manifest_is_kept(world: StoreWorld, terminal: Terminal) -> None:
    world.store.write("projects/5-1/versions/v-1/manifest.json", b"{")
    world.age("projects/5-1/", 100)
    terminal.run("gc")
    assert world.store.folders("projects/5-1/versions/") == ["v-1"]


def test_old_runs_are_deleted_except_the_last_and_the_baseline(world: StoreWorld, terminal: Terminal) -> None:
    world.run("5-8", 120)
    world.run("5-9", 110)
    world.run("5-10", 100, RunState.FAILED)
    world.run("5-11", 100, None)
    _, out, _ = terminal.run("gc")
    assert "deleting: run 5-8" in out
    assert "checkpoints of run 5-9" in out
    assert world.runs.names(5) == ["5-9", "5-10", "5-11"]
    assert [run for run in world.runs.names(5) if list(world.store.keys(f"runs/{run}/checkpoints/"))] == [
        "5-11"
    ]


def test_a_runs_request_is_deleted_first(
    world: StoreWorld, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run("5-1", 120)
    world.run("5-2", 100)
    gone: list[str] = []
    monkeypatch.setattr(FileStore, "delete", lambda _, key: gone.append(key))
    terminal.run("gc")
    assert gone[0] == "runs/5-1/request.json"


def test_orphaned_projects_are_listed_but_kept(world: StoreWorld, terminal: Terminal) -> None:
    world.project(5, "5-2", "2026-02-01")
    world.version("v-1", 100)
    world.version("v-2", 99)
    world.store.write("projects/7-1/versions/v-1/model.bin", b"x")
    world.age("projects/7-1/", 100)
    _, out, _ = terminal.run("gc")
    assert "kept: Label Studio has since given its id 5 to another project" in out
    assert "kept: its project.json is missing. Delete projects/7-1/ by hand if it is no longer needed." in out
    assert world.registry.versions("5-1") == ["v-1", "v-2"]
    assert world.store.folders("projects/") == ["5-1", "5-2", "7-1"]


def test_unreadable_runs_are_kept(
    world: StoreWorld, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.run("5-1", 120)
    world.run("5-2", 110)
    world.store.write("runs/5-1/request.json", b"{")
    world.store.write("runs/.check-1", b"")
    world.store.write("runs/other/file", documents.dump(world.registry.projects()[0]))
    terminal.run("gc")
    assert world.runs.names(5) == ["5-1", "5-2"]

    def busy(*_: object) -> None:
        raise StoreUnreachable("The storage is busy.")

    monkeypatch.setattr(Runs, "request", busy)
    assert terminal.run("gc")[2] == "The storage is busy.\n"


FILES = ("config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my model"
    for name in (*FILES, "README.md", ".cache/x.json"):
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(name.encode())
    return made


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """The store that the environment names: a folder instead of a bucket."""
    found = FileStore(tmp_path / "store")
    monkeypatch.setenv("FITLOOP_STORE", found.url + "/")
    return found


def test_push_uploads_a_model_and_prints_its_name(terminal: Terminal, folder: Path, store: FileStore) -> None:
    code, out, _ = terminal.run("models", "push", str(folder))
    assert (code, out) == (0, f"BASELINE_MODEL_NAME={store.url}/base-models/my-model/\n")
    assert list(store.keys()) == sorted(f"base-models/my-model/{name}" for name in FILES)
    assert terminal.run("models", "push", str(folder))[0] == 0, "the same again is no harm"
    head, row = terminal.run("models", "list")[1].splitlines()
    assert head.split() == ["MODEL", "MEGABYTES"]
    assert row.split() == [f"{store.url}/base-models/my-model/", "0.0"]


def test_weights_are_uploaded_last(
    terminal: Terminal, folder: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploaded: list[str] = []
    upload = FileStore.upload

    def noted(self: FileStore, source: Path, key: str) -> None:
        uploaded.append(key)
        upload(self, source, key)

    monkeypatch.setattr(FileStore, "upload", noted)
    terminal.run("models", "push", str(folder), "--to", f"{store.url}/elsewhere/")
    assert uploaded[-1] == "model.safetensors"
    assert store.folders("") == ["elsewhere"]


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json", ""])
def test_an_incomplete_model_is_refused(
    terminal: Terminal, folder: Path, store: FileStore, missing: str
) -> None:
    (folder / missing).unlink() if missing else shutil.rmtree(folder)
    code, _, err = terminal.run("models", "push", str(folder))
    assert code == 1
    assert err.startswith(f"'{folder}' is not a base model: ")
    assert list(store.keys()) == []


def test_push_refuses_a_prefix_with_another_model(terminal: Terminal, folder: Path, store: FileStore) -> None:
    store.write("base-models/my-model/model-00002-of-00002.safetensors", b"x")
    store.write("base-models/my-model/notes.txt", b"x")
    code, _, err = terminal.run("models", "push", str(folder))
    assert code == 1
    assert "already has 1 other model files (such as model-00002-of-00002.safetensors)" in err


def test_push_needs_a_bucket_and_a_name(
    terminal: Terminal, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FITLOOP_STORE", raising=False)
    assert (
        "No bucket is configured: set FITLOOP_STORE=s3://bucket/prefix/"
        in terminal.run("models", "push", str(folder))[2]
    )
    monkeypatch.setenv("FITLOOP_STORE", "file:///nowhere")
    monkeypatch.chdir(folder)
    odd = folder / "--"
    shutil.copytree(folder / "1_Pooling", odd)
    for name in FILES[:3]:
        shutil.copy(folder / name, odd)
    assert "has no usable name: pass --to s3://bucket/prefix/." in terminal.run("models", "push", "./--")[2]
