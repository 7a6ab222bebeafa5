"""A new leader reads a few documents of each project, however many runs and versions it has had."""

from __future__ import annotations

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
    read, keys = MemoryStore.read, list[str]()

    def recorded(store: MemoryStore, key: str) -> bytes:
        keys.append(key)
        return read(store, key)

    monkeypatch.setattr(MemoryStore, "read", recorded)
    world.restart()
    world.settle()
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
