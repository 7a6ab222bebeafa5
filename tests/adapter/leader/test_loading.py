"""A new leader reads a few documents of each project, however many runs and versions it has had."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.controller import ControllerWorld
from tests.support.store import MemoryStore


@pytest.fixture
def world() -> ControllerWorld:
    """A project with five runs, of which each has published a version."""
    made = ControllerWorld.serving()
    for number in range(2, 6):
        made.label_studio.label_many(6)
        made.settle()
        made.complete_run(f"1-{number}")
    return made


def keys_read(world: ControllerWorld, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Start a new leader; return the documents of runs and outcomes that it reads."""
    world.restart()
    return keys_read_by(monkeypatch, world.settle)


def keys_read_by(monkeypatch: pytest.MonkeyPatch, work: Callable[[], object]) -> list[str]:
    """Return the documents of runs and outcomes that are read meanwhile."""
    read, keys = MemoryStore.read, list[str]()

    def recorded(store: MemoryStore, key: str) -> bytes:
        keys.append(key)
        return read(store, key)

    monkeypatch.setattr(MemoryStore, "read", recorded)
    work()
    monkeypatch.setattr(MemoryStore, "read", read)
    return [key for key in keys if key.startswith("runs/") or "/verdicts/" in key]


def test_takeover_reads_no_run_and_no_outcome(
    world: ControllerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert keys_read(world, monkeypatch) == []
    assert world.current == "support-5"
    assert world.launcher.launched[-1] == "1-5"


def test_earlier_layout_is_read_once(world: ControllerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    del world.store.data[f"projects/{world.view.project.key}/state.json"]
    assert len(keys_read(world, monkeypatch)) >= 20
    assert keys_read(world, monkeypatch) == []
    assert world.current == "support-5"


def test_newest_runs_of_an_earlier_release_are_enough_to_decide(
    world: ControllerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(6, 9):
        world.label_studio.label_many(6)
        world.settle()
        world.complete_run(f"1-{number}", promote=False)
    before = world.controller.projects.reconcilers[1]
    records, outcomes = before.history.records, dict(before.versions._outcomes)
    del world.store.data[f"projects/{world.view.project.key}/state.json"]
    world.restart()
    world.workers.held = {"older runs"}
    asked = keys_read_by(monkeypatch, world.settle)
    assert {key.split("/")[1] for key in asked if key.startswith("runs/")} == {f"1-{n}" for n in (7, 8)}
    assert (world.current, world.launcher.launched[-1]) == ("support-5", "1-8")
    world.workers.release()
    world.settle()
    after = world.controller.projects.reconcilers[1]
    assert [record.run for record in after.history.records] == [record.run for record in records]
    assert after.versions._outcomes == outcomes
    assert after.versions.outcome == outcomes["support-8"]
    assert keys_read(world, monkeypatch) == []


def test_older_runs_that_cannot_be_read_are_left_to_the_next_leader(world: ControllerWorld) -> None:
    for number in range(6, 9):
        world.label_studio.label_many(6)
        world.settle()
        world.complete_run(f"1-{number}")
    del world.store.data[f"projects/{world.view.project.key}/state.json"]
    request = world.store.data["runs/1-1/request.json"]
    world.store.data["runs/1-1/request.json"] = b"{"
    world.restart()
    world.settle()
    assert len(world.controller.projects.reconcilers[1].history.records) == 2
    world.store.data["runs/1-1/request.json"] = request
    world.restart()
    world.settle()
    assert len(world.controller.projects.reconcilers[1].history.records) == 8


def test_request_that_was_never_written_is_written(world: ControllerWorld) -> None:
    """state.json is written first, so a leader that dies in between leaves a run without a request."""
    world.label_studio.label_many(6)
    world.settle()
    before = world.store.data.pop("runs/1-6/request.json")
    world.launcher.active.clear()
    del world.store.data["runs/1-6/launch.json"]
    world.restart()
    world.settle()
    assert world.store.data["runs/1-6/request.json"] == before
    assert world.launcher.launched[-2:] == ["1-6", "1-6"]


def test_run_numbers_go_on_when_old_runs_are_deleted(world: ControllerWorld) -> None:
    for key in list(world.store.keys("runs/")):
        world.store.delete(key)
    world.restart()
    world.label_studio.label_many(6)
    world.settle()
    assert world.launcher.launched[-1] == "1-6"
