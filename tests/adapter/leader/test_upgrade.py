"""A bucket of release 0.1.0 is upgraded in place: nothing is decided, trained or served differently because of it.

Project 1 serves support-2, rolled back from support-3 and pinned; an UNPIN waits in the inbox. Project 2 serves support-1, its
support-2 is held, and its run 2-3 is active. Project 3 was deleted in Label Studio.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from services.core.domain import Action, RunState
from services.core.serving_table import ServingTableFile
from tests.support.controller import ControllerWorld
from tests.support.encoders import publish_head, publish_stub_encoder
from tests.support.labelstudio import LABELS
from tests.support.release_0_1_0 import end_with_snapshot, upgraded_world


@pytest.fixture(params=["memory", "folder"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> ControllerWorld:
    return upgraded_world(tmp_path, in_memory=request.param == "memory")


def without_commands(world: ControllerWorld) -> ControllerWorld:
    for command in world.inbox.commands():
        world.inbox.delete_command(command.id)
    return world


def outcomes(world: ControllerWorld) -> dict[str, bytes]:
    return {key: world.store.read(key) for key in world.store.keys("projects/") if "/verdicts/" in key}


def served(world: ControllerWorld, project_id: int) -> tuple[str | None, str | None, str | None, bool]:
    view = world.board.view(project_id)
    assert view
    return view.served.current, view.served.previous, view.served.target, view.served.pinned


def test_projects_are_served_what_they_were_served(world: ControllerWorld) -> None:
    before = world.registry.serving()
    without_commands(world).settle(10)
    assert served(world, 1) == ("support-2", "support-3", None, True)
    assert served(world, 2) == ("support-1", None, None, False)
    after = ServingTableFile(world.store).newest()
    assert after.projects == before.projects
    assert after.term >= before.term


def test_outcomes_are_not_decided_again(world: ControllerWorld) -> None:
    before = outcomes(world)
    without_commands(world).settle(10)
    assert outcomes(world) == before
    assert world.rollout.asked == [] or set(world.rollout.asked) <= {"support-1", "support-2"}


def test_no_run_is_repeated(world: ControllerWorld) -> None:
    runs = [world.runs.names(number) for number in (1, 2, 3)]
    without_commands(world).settle(10)
    end_with_snapshot(world, "2-3")
    world.settle(20)
    assert world.runs.names(1) == runs[0] == ["1-1", "1-2", "1-3"]
    assert world.runs.names(2) == runs[1] == ["2-1", "2-2", "2-3"]
    assert world.runs.names(3) == runs[2] == ["3-1"]
    assert world.launcher.launched == []


def test_new_labels_are_counted_from_the_last_snapshot(world: ControllerWorld) -> None:
    without_commands(world)
    end_with_snapshot(world, "2-3")
    world.label_studio.label_many(5)
    world.settle(6)
    assert world.runs.names(1) == ["1-1", "1-2", "1-3"]
    assert "5 of 6" in world.view.sentence
    world.label_studio.label_many(1)
    world.settle(6)
    assert world.runs.names(1) == ["1-1", "1-2", "1-3", "1-4"]
    assert world.launcher.launched == ["1-4"]


def test_edited_annotation_counts_as_one_change(world: ControllerWorld) -> None:
    without_commands(world)
    first = next(iter(world.label_studio.tasks[1]))
    world.label_studio.label(first, world.label_studio.labels[1][1])
    world.settle(6)
    assert "1 of 6" in world.view.sentence


def test_active_run_is_adopted_and_its_end_seen(world: ControllerWorld) -> None:
    without_commands(world).settle()
    view = world.board.view(2)
    assert view
    assert view.active
    assert world.launcher.launched == []
    version = end_with_snapshot(world, "2-3")
    world.settle(6)
    assert version == "support-3"
    assert served(world, 2) == ("support-3", "support-1", None, False)
    assert world.runs.names(2) == ["2-1", "2-2", "2-3"]


def test_waiting_command_is_carried_out_once(world: ControllerWorld) -> None:
    world.settle(6)
    assert world.inbox.commands() == []
    assert not served(world, 1)[3]
    generation = world.registry.serving().generation
    world.settle(6)
    assert world.registry.serving().generation == generation
    assert list(world.store.keys("inbox/")) == []


def test_connection_and_its_parameters_are_kept(world: ControllerWorld) -> None:
    without_commands(world).settle()
    world.end("2-3", RunState.FAILED, 64)
    world.label_studio.label_many(6, 2)
    world.settle(6)
    assert world.runs.names(2)[-1] == "2-4", "no run's name is used again"
    request = world.runs.request("2-4")
    assert request
    assert request.parameters.seed == 3


def test_any_version_can_be_promoted_by_hand(world: ControllerWorld) -> None:
    without_commands(world).settle()
    for version in ("support-1", "support-3", "support-2"):
        world.command(Action.PROMOTE, version)
        world.settle()
        assert served(world, 1)[0] == version


def test_deleted_project_stays_away(world: ControllerWorld) -> None:
    without_commands(world).settle(10)
    assert world.board.view(3) is None
    assert "3-1790000003" not in world.registry.serving().projects


def test_leader_may_change_during_the_upgrade(world: ControllerWorld) -> None:
    without_commands(world)
    before = outcomes(world)
    for _ in range(4):
        world.settle(1)
        world.restart()
        world.launcher.active.add("2-3")
    world.settle(4)
    assert outcomes(world) == before
    assert served(world, 1) == ("support-2", "support-3", None, True)
    assert world.launcher.launched == []


def test_a_whole_model_gives_way_to_a_head_and_back() -> None:
    """A project whose served version was made by 0.1.0: promotion of a head, rollback, and promotion once more."""
    world = ControllerWorld.serving()
    digest, key = "ab" * 32, world.view.project.key
    publish_stub_encoder(world.registry, digest)
    publish_head(world.registry, digest, "head-1", key, labels=LABELS, created_at=world.now)
    assert world.registry.manifest(key, "support-1").encoder == ""
    world.command(Action.PROMOTE, "head-1")
    world.settle()
    assert (world.current, world.view.served.previous) == ("head-1", "support-1")
    world.command(Action.ROLLBACK)
    world.settle()
    assert (world.current, world.view.problem) == ("support-1", "")
    world.restart()
    world.settle()
    world.command(Action.PROMOTE, "head-1")
    world.settle()
    assert (world.current, world.view.problem) == ("head-1", "")
    assert world.registry.versions(key) == ["support-1", "head-1"]
