"""A Label Studio that hangs or fails delays polls alone: commands, promotions and other projects go on."""

from __future__ import annotations

import pytest

from services.core.domain import Action
from services.core.errors import LabelStudioError, LabelStudioUnreachable
from tests.support.controller import ControllerWorld, build_settings


@pytest.fixture
def serving() -> ControllerWorld:
    """A project that serves support-2, after support-1."""
    world = ControllerWorld.serving()
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-2")
    assert world.current == "support-2"
    return world


def test_commands_are_carried_out_while_a_poll_hangs(serving: ControllerWorld) -> None:
    serving.workers.held.add("poll")
    serving.event()
    serving.tick(15.0)
    reads = list(serving.label_studio.reads)
    serving.command(Action.ROLLBACK)
    serving.tick(0.5)
    assert serving.current == "support-1"
    serving.command(Action.PAUSE)
    serving.tick(0.5)
    assert serving.view.paused
    assert serving.label_studio.reads == reads
    assert serving.inbox.commands() == []


def test_versions_are_promoted_while_a_poll_hangs(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.workers.held.add("poll")
    serving.event()
    serving.tick(15.0)
    serving.train("1-3")
    serving.end("1-3")
    serving.tick(0.5)
    assert serving.current == "support-3"


def test_labels_read_before_a_run_ended_decide_nothing(serving: ControllerWorld) -> None:
    """What the poll compared with was the run before: its labels would count as changed once more."""
    serving.label_studio.label_many(6)
    serving.settle()
    assert serving.launcher.launched[-1] == "1-3"
    serving.workers.held.add("poll")
    serving.event()
    serving.tick(15.0)
    serving.train("1-3")
    serving.end("1-3")
    serving.tick(0.5)
    serving.workers.release()
    serving.tick(0.5)
    serving.settle()
    assert serving.launcher.launched[-1] == "1-3"


def test_command_is_decided_on_labels_read_after_it(serving: ControllerWorld) -> None:
    serving.workers.held.add("poll")
    serving.event()
    serving.tick(15.0)
    serving.label_studio.label_many(1)
    serving.command(Action.TRAIN)
    serving.tick(0.5)
    serving.workers.release()
    serving.tick(0.5)
    serving.tick(0.5)
    assert serving.launcher.launched[-1] == "1-3"
    request = serving.requests()[-1]
    assert request.labels
    assert request.labels.labelled == 13


@pytest.mark.parametrize("seconds", [30.0, 600.0])
def test_few_polls_are_tried_while_label_studio_is_away(seconds: float) -> None:
    world = ControllerWorld(build_settings(reconcile_seconds=1.0))
    for project_id in range(1, 21):
        world.connect(project_id)
    world.settle()
    world.label_studio.down = LabelStudioUnreachable("It does not answer.")
    world.settle()
    world.label_studio.reads.clear()
    for _ in range(int(seconds)):
        world.tick(1.0)
    assert len(world.label_studio.reads) <= 2 + seconds / 10
    assert all("It does not answer." in view.problem for view in world.board.views.values())
    world.label_studio.down = None
    for _ in range(150):
        world.tick(1.0)
    assert {view.problem for view in world.board.views.values()} == {""}


def test_error_of_one_project_stops_no_other_poll() -> None:
    world = ControllerWorld(build_settings(reconcile_seconds=1.0))
    for project_id in (1, 2):
        world.connect(project_id)
    world.settle()
    newest = world.label_studio.newest

    def odd(project_id: int) -> object:
        if project_id == 1:
            raise LabelStudioError("It answered with HTML.")
        return newest(project_id)

    world.label_studio.newest = odd  # type: ignore[method-assign, assignment]
    world.label_studio.label_many(6, 2)
    for project_id in (1, 2):
        world.event(project_id=project_id)
    for _ in range(10):
        world.tick(1.0)
    assert world.launcher.launched == ["2-1"]
    assert "It answered with HTML." in world.view.problem


def test_leader_sleeps_while_workers_wait() -> None:
    """A tick that is due at once again and again would keep a core busy while Label Studio or the bucket hangs."""
    world = ControllerWorld()
    world.workers.held.update({"discover", "load", "list projects", "poll", "backends"})
    for project_id in range(1, 6):
        world.label_studio.add_project(project_id)
        world.event("SETUP", project_id)
    assert world.tick() > 0
    world.workers.release()
    world.workers.held.add("load")
    assert world.tick() > 0
    world.workers.release()
    world.settle()
    world.workers.held.update({"poll", "backends"})
    for hours in range(30):
        assert world.tick(3600.0 * (hours % 2)) > 0 or world.tick() > 0


def test_projects_without_a_known_address_are_left_alone() -> None:
    world = ControllerWorld()
    for project_id in range(1, 6):
        world.label_studio.add_project(project_id)
        world.event("SETUP", project_id)
    world.settle()
    for _ in range(5):
        world.tick(3600.0)
        world.tick(1.0)
        assert world.tick() > 1.0
    assert "backends" not in world.label_studio.reads
