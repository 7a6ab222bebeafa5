"""Several projects in one controller: errors stay with their project, ids may be invented, and runs are queued."""

from __future__ import annotations

import pytest

from services.adapter.leader.discovery import MAX_WAITING
from services.core.domain import Action, Command, RunState
from services.core.errors import LabelStudioNotFound, LabelStudioUnreachable, StoreError
from tests.support.controller import ControllerWorld, build_settings


def two(active: int = 2) -> ControllerWorld:
    """Two connected projects without labels."""
    world = ControllerWorld(build_settings(max_active_runs=active))
    world.connect(1)
    world.connect(2)
    return world


def served() -> ControllerWorld:
    """One project that serves support-1."""
    world = ControllerWorld()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-1")
    return world


def make_polls_fail(world: ControllerWorld, error: Exception, project_id: int = 1) -> None:
    """Make Label Studio's answers about the project fail."""
    project, newest = world.label_studio.project, world.label_studio.newest

    def answer(asked: int, *_: object) -> object:
        if asked == project_id:
            raise error
        return project(asked)

    def newest_of(asked: int) -> object:
        return answer(asked) and newest(asked)

    world.label_studio.project = answer  # type: ignore[method-assign,assignment]
    world.label_studio.newest = newest_of  # type: ignore[method-assign,assignment]


def test_unexpected_error_delays_no_other_project(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = two()
    make_polls_fail(world, KeyError("the text of a task"))
    world.label_studio.label_many(6, 2)
    world.settle()
    assert world.launcher.launched == ["2-1"]
    assert "KeyError" in world.view.problem
    printed = capsys.readouterr()
    assert "the text of a task" not in printed.out + printed.err


def test_unexpected_error_in_discovery_delays_no_other() -> None:
    world = ControllerWorld()
    make_polls_fail(world, KeyError("created_at"))
    world.event("SETUP", 1)
    world.connect(2)
    assert 2 in world.board.views
    assert "KeyError" in world.view.problem


def test_unreadable_run_stops_only_its_project() -> None:
    world = served()
    world.label_studio.label_many(6)
    world.settle()
    world.connect(2)
    world.label_studio.label_many(6, 2)
    world.store.data["runs/1-2/status.json"] = b'{"format": 99}'
    world.restart()
    world.settle()
    assert world.board.ready.is_set()
    assert "runs/1-2/status.json has format 99" in world.view.problem
    assert world.current == "support-1"
    assert world.board.views[2].labelled == 6


def test_command_of_a_newer_release_delays_no_other() -> None:
    world = two()
    world.store.data["inbox/cmd-1.json"] = b'{"format": 99}'
    world.label_studio.label_many(6, 2)
    world.settle()
    assert world.launcher.launched == ["2-1"]


def test_failed_restart_is_retried_later() -> None:
    world = ControllerWorld()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    whole = world.leader_store.read

    def read(key: str) -> bytes:
        if key.startswith("runs/"):
            raise StoreError("Too many open files.")
        return whole(key)

    world.leader_store.read = read  # type: ignore[method-assign]
    world.tick(1.0)
    world.leader_store.read = whole  # type: ignore[method-assign]
    world.settle()
    assert world.runs.names(1) == ["1-1"]
    assert world.view.problem == ""


def test_two_404s_remove_a_project_but_keep_its_commands() -> None:
    world = served()
    world.label_studio.label_many(2)
    world.command(Action.TRAIN, seed="5")
    whole, newest = world.label_studio.project, world.label_studio.newest
    make_polls_fail(world, LabelStudioNotFound("404"))
    world.tick(20.0)
    assert world.current == "support-1"
    world.tick(20.0)
    assert world.board.views == {}
    assert len(world.inbox.commands()) == 1
    world.label_studio.project, world.label_studio.newest = whole, newest  # type: ignore[method-assign]
    world.tick(61.0)
    world.settle()
    assert world.launcher.launched[-1] == "1-2"


def test_command_for_an_unknown_id_is_dropped_at_second_404() -> None:
    world = ControllerWorld()
    world.inbox.add_command(Command("1", 9, Action.TRAIN))
    world.tick()
    assert len(world.inbox.commands()) == 1
    world.tick(2.0)
    assert world.inbox.commands() == []
    assert world.board.views == {}


def test_discovery_queue_is_bounded() -> None:
    world = ControllerWorld()
    world.label_studio.down = LabelStudioUnreachable("Label Studio does not answer.")
    for number in range(1, 3000):
        world.event("SETUP", number)
    world.tick()
    assert len(world.label_studio.reads) <= 3
    for _ in range(200):
        world.tick(1.0)
    assert len(world.board.views) <= MAX_WAITING
    world.label_studio.down = None
    for _ in range(300):
        world.tick(2.0)
    assert world.board.views == {}
    world.connect(5000)
    assert set(world.board.views) == {5000}


def test_thousands_of_commands_are_read_by_several_ticks_without_a_pause() -> None:
    world = ControllerWorld()
    world.connect()
    for _ in range(200):
        world.command(Action.TRAIN, seed="1")
    newest = world.command(Action.PAUSE)
    ticks = 1
    while world.tick() == 0.0:
        ticks += 1
    assert ticks == 4
    assert world.view.paused
    world.tick()
    assert len(world.inbox.commands()) == 1
    assert not world.inbox.has_command(newest)


def test_waiting_trains_with_equal_parameters_are_merged() -> None:
    world = ControllerWorld()
    world.connect()
    for _ in range(19):
        world.command(Action.TRAIN)
        world.command(Action.TRAIN, seed="1")
    world.command(Action.TRAIN)
    newest = world.command(Action.TRAIN, seed="1")
    world.command(Action.PAUSE)
    world.tick()
    assert len(world.inbox.commands()) == 2
    assert world.inbox.commands()[-1].id == newest


def test_longest_waiting_project_trains_next() -> None:
    world = two(active=1)
    world.connect(3)
    world.label_studio.label_many(6, 3)
    world.settle(2)
    assert world.launcher.launched == ["3-1"]
    world.label_studio.label_many(6, 2)
    world.settle(2)
    world.label_studio.label_many(6, 1)
    world.settle(2)
    assert world.launcher.launched == ["3-1"]
    assert world.view.sentence == "6 labelled tasks changed; waiting for run 3-1 of another project"
    world.train("3-1")
    world.end("3-1")
    world.tick(0.5)
    world.tick(0.5)
    assert world.launcher.launched == ["3-1", "2-1"]
    world.train("2-1")
    world.end("2-1", RunState.FAILED, 65)
    world.tick(0.5)
    world.tick(0.5)
    assert world.launcher.launched == ["3-1", "2-1", "1-1"]


def test_project_that_cannot_train_leaves_the_run_queue() -> None:
    world = two(active=1)
    world.connect(3)
    for project_id in (3, 2, 1):
        world.label_studio.label_many(6, project_id)
        world.settle(2)
    make_polls_fail(world, LabelStudioUnreachable("It does not answer."), 2)
    world.train("3-1")
    world.end("3-1")
    for _ in range(3):
        assert world.tick(0.5) <= 0.5
    assert world.launcher.launched == ["3-1", "1-1"]


def test_restart_still_waits_for_an_active_run() -> None:
    world = two(active=1)
    world.label_studio.label_many(6, 2)
    world.settle(2)
    world.restart()
    world.label_studio.label_many(6, 1)
    world.settle(2)
    assert world.runs.names(1) == []
    assert world.controller.tick(world.now) <= 0.5


def test_replaced_project_does_not_get_old_commands() -> None:
    world = served()
    world.label_studio.add_project(1)
    world.command(Action.TRAIN)
    world.settle()
    assert world.inbox.commands() == []
    assert world.launcher.launched == ["1-1"]
    assert world.view.project.key != "1-1790000001"


def test_false_deletion_event_deletes_nothing_later() -> None:
    world = served()
    world.event("PROJECT_DELETED")
    world.settle(5)
    make_polls_fail(world, LabelStudioNotFound("404"))
    world.settle()
    assert world.board.views == {}
    assert [served.current for served in world.registry.serving().projects.values()] == ["support-1"]


def test_reused_id_serves_no_version_of_the_old_project() -> None:
    world = served()
    world.label_studio.add_project(1)
    world.settle()
    assert world.registry.serving().projects == {}
