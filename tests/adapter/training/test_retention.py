"""What is deleted after a run has ended, and what never is."""

from __future__ import annotations

import json

import pytest

from services.adapter.state.project_state import read_project_state
from services.core.domain import Action, RunState
from services.core.errors import StoreError
from tests.support.controller import ControllerWorld
from tests.support.encoders import publish_head, publish_stub_encoder

DAY = 86_400.0


def one_more(world: ControllerWorld, **options: bool) -> None:
    """Labels, a run, its version."""
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run(world.launcher.launched[-1], **options)


def connected() -> ControllerWorld:
    world = ControllerWorld()
    world.connect()
    return world


def test_served_and_previous_versions_are_never_deleted() -> None:
    world = connected()
    one_more(world)
    one_more(world)
    for _ in range(4):
        one_more(world, promote=False)
    key = world.view.project.key
    assert world.registry.versions(key) == ["support-1", "support-2", "support-5", "support-6"]
    assert (world.current, world.view.served.previous) == ("support-2", "support-1")


def test_a_version_promoted_during_a_sweep_survives() -> None:
    world = connected()
    one_more(world)
    one_more(world, promote=False)
    one_more(world, promote=False)
    world.label_studio.label_many(6)
    world.settle()
    key = world.view.project.key
    world.train("1-4", promote=False)
    world.end("1-4")
    deliver = world.workers.deliver
    world.workers.deliver = lambda: False  # type: ignore[method-assign]
    world.tick(1.0)
    assert world.workers.is_busy(("sweep", 1)), "it has found support-2, and the leader does not know yet"
    world.command(Action.PROMOTE, "support-2")
    world.tick(1.0)
    assert world.current == "support-2"
    world.workers.deliver = deliver  # type: ignore[method-assign]
    world.settle()
    assert world.current == "support-2"
    assert "support-2" in world.registry.versions(key)
    assert world.view.problem == ""


def test_checkpoints_are_deleted_after_a_run() -> None:
    world = connected()
    world.label_studio.label_many(6)
    world.settle()
    world.store.write("runs/1-1/checkpoints/1/model.safetensors", b"weights")
    world.tick(0.5)
    assert list(world.store.keys("runs/1-1/checkpoints/"))
    world.complete_run("1-1")
    assert not list(world.store.keys("runs/1-1/checkpoints/"))
    assert world.runs.request("1-1")


def test_old_runs_are_deleted_but_not_the_baseline() -> None:
    world = connected()
    one_more(world)
    one_more(world)
    world.label_studio.label_many(6)
    world.settle()
    world.now += 2 * DAY
    world.end("1-3", RunState.FAILED, 65, "Bad labels.")
    world.settle()
    assert world.runs.names(1) == ["1-2", "1-3"]
    world.restart()
    world.settle()
    assert world.launcher.launched[-1] == "1-3"
    assert world.runs.next_name(1) == "1-4"


def test_unremembered_old_runs_are_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("services.adapter.training.runs.MAX_REMEMBERED", 2)
    world = connected()
    for _ in range(5):
        one_more(world)
    world.store.data["runs/1-2/request.json"] = b"not JSON"
    world.restart()
    world.tick()
    world.now += 2 * DAY
    world.settle()
    assert world.runs.names(1) == ["1-2", "1-5"]


def test_interrupted_sweep_is_repeated_after_a_restart() -> None:
    world = connected()
    world.label_studio.label_many(6)
    world.settle()
    world.train("1-1")
    world.end("1-1")
    world.store.write("runs/1-1/checkpoints/1/model.safetensors", b"weights")
    world.command(Action.PAUSE)
    world.restart()
    world.settle()
    assert not list(world.store.keys("runs/1-1/checkpoints/"))


@pytest.mark.parametrize("after", [1, 2, 3])
def test_half_deleted_run_is_not_launched_again(after: int) -> None:
    world = connected()
    one_more(world)
    one_more(world)
    world.label_studio.label_many(6)
    world.settle()
    world.now += 2 * DAY
    delete, seen = world.leader_store.delete, []

    def cut_off(key: str) -> None:
        if key.startswith("runs/1-1/"):
            seen.append(key)
            if len(seen) == after:
                raise StoreError("The bucket does not answer.")
        delete(key)

    world.leader_store.delete = cut_off  # type: ignore[method-assign]
    world.end("1-3")
    world.settle()
    assert len(seen) >= after
    world.restart()
    world.settle()
    assert world.launcher.launched == ["1-1", "1-2", "1-3"]
    world.label_studio.label_many(6)
    world.settle()
    world.end("1-4")
    world.settle()
    assert "1-1" not in world.runs.names(1)


def test_sweeps_note_which_encoders_are_needed() -> None:
    world = connected()
    one_more(world)
    key = world.view.project.key
    publish_stub_encoder(world.registry, "ab" * 32)
    publish_head(world.registry, "ab" * 32, "head-1", key, created_at=world.now)
    world.store.write(f"projects/{key}/versions/broken/manifest.json", b"{")
    one_more(world)
    found = read_project_state(world.store, key)
    assert found is not None
    assert found.encoders is not None
    assert found.encoders.versions == {"head-1": "ab" * 32}
    assert found.encoders.unreadable == ("broken",)


def test_the_leader_deletes_unused_encoders_by_itself() -> None:
    world = connected()
    one_more(world)
    publish_stub_encoder(world.registry, "ab" * 32)
    for _ in range(4):
        world.now += 1.1 * DAY
        world.settle()
    assert list(world.store.keys("encoders/")) == []


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        (None, False),
        ("version", True),
        ("alias", True),
        ("foreign alias", False),
        ("young", True),
        ("unreadable", True),
    ],
)
def test_features_without_versions_are_deleted(changed: str | None, kept: bool) -> None:
    world = connected()
    one_more(world)
    key, digest = world.view.project.key, "ab" * 32
    publish_stub_encoder(world.registry, digest)
    world.store.write(f"projects/{key}/features/{digest}/000001.safetensors", b"rows")
    if changed == "version":
        publish_head(world.registry, digest, "head-1", key, created_at=world.now)
    elif changed in {"alias", "foreign alias"}:
        base = "tiny" if changed == "alias" else "another"
        alias = json.dumps({"digest": digest, "base_model": base, "max_length": 256})
        world.store.write("encoders/base-0123456789abcdef.json", alias.encode())
    elif changed == "young":
        world.leader_store.modified[f"projects/{key}/features/{digest}/000001.safetensors"] = world.now
    elif changed == "unreadable":
        world.store.write(f"projects/{key}/versions/broken/manifest.json", b"{")
    one_more(world)
    assert bool(list(world.store.keys(f"projects/{key}/features/"))) is kept
