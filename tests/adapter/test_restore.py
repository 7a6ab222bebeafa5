"""A restored bucket is served as it was backed up, as docs/operations.md promises; and what undoes a restore that is not whole."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.core.domain import Action, Serving
from services.core.inbox import Inbox
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.serving_table import SERVING_KEY, ServingTableReader
from services.core.store import ObjectStore
from services.core.store.files import FileStore
from tests.support.buckets import build_s3_settings, build_s3_store
from tests.support.controller import ControllerWorld
from tests.support.fakes import FakeLauncher
from tests.support.s3_server import serve_bucket

Copy = dict[str, bytes]


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "folder":
        yield FileStore(tmp_path / "store")
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    with serve_bucket(port):
        settings = build_s3_settings(f"http://127.0.0.1:{port}", "key", "secret", region="us-east-1")
        yield build_s3_store("s3://bucket/fitloop/", tmp_path / "cache", settings)


class StoredWorld(ControllerWorld):
    """A world whose store survives in a folder or a bucket."""

    def __init__(self, store: ObjectStore, before: ControllerWorld | None = None) -> None:
        """`before`: a world of other processes, with the same Label Studio at the same time."""
        super().__init__()
        self.launcher.close()
        self.store = self.leader_store = store  # type: ignore[assignment]  # nothing here makes it fail
        self.registry, self.runs, self.inbox = Registry(store), Runs(store), Inbox(store)
        self.launcher = FakeLauncher(store)
        if before:
            self.label_studio, self.now = before.label_studio, before.now
        self.restart()

    def train_and_serve(self, run: str) -> None:
        self.label_studio.label_many(6)
        self.settle()
        assert self.complete_run(run) == self.current


def back_up(store: ObjectStore) -> Copy:
    """Copy serving.json, then the rest, without its generations and the inbox."""
    copy = {SERVING_KEY: store.read(SERVING_KEY)}
    for key in store.keys(""):
        if key != SERVING_KEY and not key.startswith(("serving/", "inbox/")):
            copy[key] = store.read(key)
    return copy


def restore(store: ObjectStore, copy: Copy, prefix: str = "") -> None:
    """Make the store, or what is below the prefix, equal to the copy."""
    for key in list(store.keys(prefix)):
        if key not in copy:
            store.delete(key)
    for key, data in copy.items():
        if key.startswith(prefix):
            store.write(key, data)


def table(store: ObjectStore) -> Serving:
    return Registry(store).serving()


@pytest.fixture
def world(store: ObjectStore) -> StoredWorld:
    """A project that serves support-1."""
    world = StoredWorld(store)
    world.connect()
    world.train_and_serve("1-1")
    return world


def test_a_restored_bucket_is_served_and_trained_on(world: StoredWorld, store: ObjectStore) -> None:
    copy, before = back_up(store), table(store)
    world.train_and_serve("1-2")
    world.command(Action.PAUSE)
    world.settle()
    restore(store, copy)
    after = StoredWorld(store, world)
    after.settle()
    assert after.current == "support-1"
    assert not after.view.paused
    assert after.view.problem == ""
    assert table(store).term == before.term + 1
    assert table(store).projects == before.projects
    assert ServingTableReader(store).read() == table(store)
    assert after.launcher.launched == ["1-2"], "labels of after the backup are found by the next poll"
    assert after.complete_run("1-2") == after.current == "support-2"


def test_processes_that_saw_a_later_term_must_be_restarted(world: StoredWorld, store: ObjectStore) -> None:
    copy, running = back_up(store), ServingTableReader(store)
    for _ in range(3):
        world.restart()
        world.train_and_serve(f"1-{len(world.runs.names(1)) + 1}")
    later = running.read()
    restore(store, copy)
    after = StoredWorld(store, world)
    after.settle()
    assert table(store).term < later.term
    assert running.read() == later, "it takes the restored table for a late write"
    assert ServingTableReader(store).read() == table(store)


def test_a_running_leader_undoes_an_older_table(world: StoredWorld, store: ObjectStore) -> None:
    copy = back_up(store)
    world.train_and_serve("1-2")
    restore(store, copy)
    world.tick(5.0)
    assert ServingTableReader(store).read().projects[world.view.project.key].current == "support-2"


def test_later_generations_undo_an_older_table(world: StoredWorld, store: ObjectStore) -> None:
    copy = back_up(store)
    world.train_and_serve("1-2")
    store.write(SERVING_KEY, copy[SERVING_KEY])
    after = StoredWorld(store, world)
    after.settle()
    assert after.current == "support-2"
    restore(store, copy, "serving")
    assert table(store).projects[after.view.project.key].current == "support-1"


def test_commands_are_not_restored(world: StoredWorld, store: ObjectStore) -> None:
    world.command(Action.PAUSE)
    copy = back_up(store)
    restore(store, copy)
    after = StoredWorld(store, world)
    after.settle()
    assert after.inbox.commands() == []
    assert not after.view.paused


def test_versions_left_from_after_the_backup_are_promoted_again(
    world: StoredWorld, store: ObjectStore
) -> None:
    copy = back_up(store)
    world.train_and_serve("1-2")
    left = {key: store.read(key) for key in store.keys("") if "support-2/" in key or "runs/1-2/" in key}
    restore(store, copy | left)
    after = StoredWorld(store, world)
    after.settle()
    assert after.current == "support-2"


def test_a_backup_during_a_run_continues_the_run(world: StoredWorld, store: ObjectStore) -> None:
    world.label_studio.label_many(6)
    world.settle()
    copy = back_up(store)
    world.complete_run("1-2")
    restore(store, copy)
    after = StoredWorld(store, world)
    after.settle()
    assert after.launcher.launched == ["1-2"]
    assert after.complete_run("1-2") == after.current == "support-2"
