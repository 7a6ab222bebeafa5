"""Several projects in one supervisor: trouble of one is no other's, numbers may be invented, and runs take turns."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.adapter.arrivals import MOST
from services.core.domain import Action, Command, RunState
from services.core.errors import CorruptVersion, LabelStudioUnreachable, StoreError
from services.core.labelstudio import Missing
from services.core.runs import version_name
from tests.fakes import metric
from tests.fakes_labelstudio import URL
from tests.fakes_supervisor import World, settings


def two(active: int = 2) -> World:
    """Two connected projects without labels."""
    world = World(settings(max_active_runs=active))
    world.connect(1)
    world.connect(2)
    return world


def served() -> World:
    """One project that serves support-1."""
    world = World()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    world.carry_through("1-1")
    return world


def raising(world: World, error: Exception, project_id: int = 1) -> None:
    """Label Studio's answers about the project are of no use."""
    whole = world.label_studio.project

    def answer(asked: int) -> object:
        if asked == project_id:
            raise error
        return whole(asked)

    world.label_studio.project = answer  # type: ignore[method-assign,assignment]


def test_a_slip_about_one_project_holds_up_no_other_and_names_no_text(
    capsys: pytest.CaptureFixture[str],
) -> None:
    world = two()
    raising(world, KeyError("the text of a task"))
    world.label_studio.label_many(6, 2)
    world.settle()
    assert world.launcher.launched == ["2-1"]
    assert "KeyError" in world.view.problem
    printed = capsys.readouterr()
    assert "the text of a task" not in printed.out + printed.err


def test_a_slip_about_an_unknown_project_holds_up_no_other() -> None:
    world = World()
    raising(world, KeyError("created_at"))
    world.event("SETUP", 1)
    world.connect(2)
    assert 2 in world.board.views
    assert "KeyError" in world.view.problem


def test_one_unreadable_run_stops_its_project_alone_whose_version_serves_on() -> None:
    world = served()
    world.connect(2)
    world.label_studio.label_many(6, 2)
    world.store.data["runs/1-1/status.json"] = b'{"format": 99}'
    world.restart()
    world.settle()
    assert world.board.ready.is_set()
    assert "runs/1-1/status.json has format 99" in world.view.problem
    assert world.current == "support-1"
    assert world.launcher.launched[-1] == "2-1"


def test_a_command_of_a_newer_release_holds_up_no_other() -> None:
    world = two()
    world.store.data["inbox/cmd-1.json"] = b'{"format": 99}'
    world.label_studio.label_many(6, 2)
    world.settle()
    assert world.launcher.launched == ["2-1"]


def test_a_project_that_could_not_be_read_again_after_a_failed_step_is_read_later() -> None:
    world = World()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    whole = world.own.read

    def read(key: str) -> bytes:
        if key.startswith("runs/"):
            raise StoreError("Too many open files.")
        return whole(key)

    world.own.read = read  # type: ignore[method-assign]
    world.tick(1.0)
    world.own.read = whole  # type: ignore[method-assign]
    world.settle()
    assert world.runs.names(1) == ["1-1"]
    assert world.view.problem == ""


def test_one_404_forgets_nothing_and_two_keep_the_commands() -> None:
    world = served()
    world.label_studio.label_many(2)
    world.command(Action.TRAIN, seed="5")
    whole = world.label_studio.project
    raising(world, Missing("404"))
    world.tick(20.0)
    assert world.current == "support-1"
    world.tick(20.0)
    assert world.board.views == {}
    assert len(world.inbox.commands()) == 1
    world.label_studio.project = whole  # type: ignore[method-assign]
    world.tick(61.0)
    world.settle()
    assert world.launcher.launched[-1] == "1-2"


def test_a_command_for_a_number_that_never_was_is_dropped_at_the_second_404() -> None:
    world = World()
    world.inbox.put(Command("1", 9, Action.TRAIN))
    world.tick()
    assert len(world.inbox.commands()) == 1
    world.tick(2.0)
    assert world.inbox.commands() == []
    assert world.board.views == {}


def test_invented_numbers_are_bounded_and_few_are_asked_for_at_a_time() -> None:
    world = World()
    world.label_studio.down = LabelStudioUnreachable("Label Studio does not answer.")
    for number in range(1, 3000):
        world.event("SETUP", number)
    world.tick()
    assert len(world.label_studio.reads) == 1
    for _ in range(200):
        world.tick(1.0)
    assert len(world.board.views) <= MOST
    world.label_studio.down = None
    for _ in range(300):
        world.tick(2.0)
    assert world.board.views == {}
    world.connect(5000)
    assert set(world.board.views) == {5000}


def test_trains_that_wait_fold_into_one_for_each_parameters() -> None:
    world = World()
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


def test_projects_take_turns_and_who_waited_longest_is_next() -> None:
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


def test_nobody_waits_for_a_project_that_label_studio_says_nothing_about_or_that_no_longer_wants() -> None:
    world = two(active=1)
    world.connect(3)
    for project_id in (3, 2, 1):
        world.label_studio.label_many(6, project_id)
        world.settle(2)
    raising(world, LabelStudioUnreachable("It does not answer."), 2)
    world.train("3-1")
    world.end("3-1")
    for _ in range(3):
        assert world.tick(0.5) <= 0.5
    assert world.launcher.launched == ["3-1", "1-1"]


def test_after_a_restart_a_run_that_goes_on_is_still_waited_for() -> None:
    world = two(active=1)
    world.label_studio.label_many(6, 2)
    world.settle(2)
    world.restart()
    world.label_studio.label_many(6, 1)
    world.settle(2)
    assert world.runs.names(1) == []
    assert world.supervisor.tick(world.now) <= 0.5


def test_a_run_that_failed_after_it_published_is_not_made_again_on_the_same_labels() -> None:
    world = served()
    world.label_studio.label_many(6)
    world.settle()
    world.train("1-2")
    world.end("1-2", RunState.FAILED, 1, "The run crashed.")
    for _ in range(3):
        world.settle()
        world.tick(4000.0)
    assert world.runs.names(1) == ["1-1", "1-2"]
    assert world.current == "support-2"
    assert "The run crashed." in world.view.problem
    world.label_studio.label_many(6)
    world.settle()
    assert world.runs.names(1)[-1] == "1-3"


def test_a_new_title_between_two_attempts_renames_no_version_and_makes_no_new_run() -> None:
    world = World()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    (request,) = world.requests()
    assert request.parameters.model_name == "support"
    renamed = replace(world.view.project, title="Mails")
    assert version_name(renamed, request.parameters.model_name, "1-1") == "support-1"
    world.carry_through("1-1")
    world.command(Action.TRAIN)
    world.settle()
    assert world.inbox.commands() == []
    assert world.launcher.launched == ["1-1"]


def test_a_hand_promote_clears_what_was_said_of_a_broken_version() -> None:
    world = served()
    world.label_studio.label_many(6)
    world.settle()
    world.carry_through("1-2")
    world.inference.broken["support-2"] = CorruptVersion("File 'x' differs.")
    world.restart()
    world.tick()
    assert "support-2 cannot be served" in world.view.problem
    world.inference.broken.clear()
    world.command(Action.PROMOTE, "support-2")
    world.tick()
    assert world.view.problem == ""


def test_why_a_command_began_no_run_is_seen_until_labels_change() -> None:
    world = served()
    world.command(Action.TRAIN)
    world.settle()
    assert "nothing has changed since run 1-1" in world.view.sentence
    world.label_studio.label_many(1)
    world.settle()
    assert "waiting: 1 of 6" in world.view.sentence


def test_only_the_snapshot_that_is_counted_from_stays_in_memory() -> None:
    world = served()
    for number in range(2, 6):
        world.label_studio.label_many(6)
        world.settle()
        world.carry_through(f"1-{number}")
    world.restart()
    for _ in range(2):
        world.settle()
        records = world.supervisor._stewards[1].history.records
        assert [record.run for record in records if record.snapshot] == ["1-5"]
        assert len({record.fingerprint for record in records}) == 5


def test_tasks_that_nobody_told_of_get_predictions() -> None:
    world = served()
    new = [world.label_studio.add_task() for _ in range(3)]
    world.settle()
    assert {row["task"] for row in world.label_studio.predictions} == set(new)
    more = world.label_studio.add_task()
    world.event("TASKS_CREATED")
    world.tick()
    world.restart()
    world.settle()
    assert more in {row["task"] for row in world.label_studio.predictions}
    world.label_studio.reads.clear()
    world.settle()
    assert "unlabelled" not in world.label_studio.reads


def test_a_quick_rollback_gives_the_title_back() -> None:
    world = served()
    world.label_studio.label_many(6)
    world.settle()
    world.train("1-2")
    world.end("1-2")
    world.tick()
    world.tick()
    while world.supervisor.refresher.work(world.now):
        pass
    assert world.label_studio.titles[1][0].title == "support-2"
    world.command(Action.ROLLBACK)
    world.settle()
    assert world.label_studio.titles[1][0].title == "support-1"


def test_another_address_lists_no_tasks_and_is_written_down_once() -> None:
    world = served()
    world.supervisor.remember(1, {"seed": "3"}, URL)
    world.settle()
    world.label_studio.reads.clear()
    before = world.own.changes
    for address in ("http://127.0.0.1:9090", URL) * 3:
        world.supervisor.remember(1, None, address)
        world.tick(0.1)
        while world.supervisor.refresher.work(world.now):
            pass
    assert world.label_studio.reads.count("backends") == 1
    assert "unlabelled" not in world.label_studio.reads
    assert world.own.changes == before + 1
    assert world.supervisor._stewards[1].link.connection.overrides == {"seed": "3"}


def test_a_metric_names_the_engine_of_what_is_served() -> None:
    world = served()
    assert metric("fitloop_served_engine", project="1", engine="torch-fp32") == 1
    del world.label_studio.labels[1]
    world.settle()
    with pytest.raises(AssertionError):
        metric("fitloop_served_engine", project="1", engine="torch-fp32")


def test_a_project_that_comes_back_under_its_number_does_not_get_the_old_ones_commands() -> None:
    world = served()
    world.label_studio.add_project(1)
    world.command(Action.TRAIN)
    world.settle()
    assert world.inbox.commands() == []
    assert world.launcher.launched == ["1-1"]
    assert world.view.project.key != "1-1790000001"
