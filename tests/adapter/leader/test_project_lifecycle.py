"""One project over time: failed runs, titles, backend URLs, unannounced tasks, and its status."""

from __future__ import annotations

from dataclasses import replace

from services.core.domain import Action, RunState
from services.core.errors import CorruptVersion
from services.core.runs import version_name
from tests.support.controller import ControllerWorld
from tests.support.labelstudio import URL


def test_run_failed_after_publishing_is_not_repeated() -> None:
    world = ControllerWorld.serving()
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


def test_new_title_between_attempts_renames_no_version() -> None:
    world = ControllerWorld()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    (request,) = world.requests()
    assert request.parameters.model_name == "support"
    renamed = replace(world.view.project, title="Mails")
    assert version_name(renamed, request.parameters.model_name, "1-1") == "support-1"
    world.complete_run("1-1")
    world.command(Action.TRAIN)
    world.settle()
    assert world.inbox.commands() == []
    assert world.launcher.launched == ["1-1"]


def test_forced_version_clears_the_problem_of_a_broken_one() -> None:
    world = ControllerWorld.serving()
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-2")
    world.rollout.broken["support-2"] = CorruptVersion("File 'x' differs.")
    world.restart()
    world.tick()
    assert "support-2 cannot be served" in world.view.problem
    world.rollout.broken.clear()
    world.command(Action.PROMOTE, "support-2")
    world.tick()
    assert world.view.problem == ""


def test_dismissal_reason_is_shown_until_labels_change() -> None:
    world = ControllerWorld.serving()
    world.command(Action.TRAIN)
    world.settle()
    assert "nothing has changed since run 1-1" in world.view.sentence
    world.label_studio.label_many(1)
    world.settle()
    assert "waiting: 1 of 6" in world.view.sentence


def test_a_new_leader_does_not_read_the_labels_again() -> None:
    world = ControllerWorld.serving()
    world.label_studio.reads.clear()
    world.restart()
    world.settle()
    assert world.view.labelled == 6
    assert "all" not in world.label_studio.reads


def test_unannounced_tasks_get_predictions() -> None:
    world = ControllerWorld.serving()
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
    assert "count" not in world.label_studio.reads


def test_quick_rollback_restores_the_title() -> None:
    world = ControllerWorld.serving()
    world.label_studio.label_many(6)
    world.settle()
    world.train("1-2")
    world.end("1-2")
    world.tick(0.5)
    world.tick(0.5)
    while world.controller.refresher.run_due_job(world.now):
        pass
    assert world.label_studio.backend_rows[1][0].title == "support-2"
    world.command(Action.ROLLBACK)
    world.settle()
    assert world.label_studio.backend_rows[1][0].title == "support-1"


def test_another_backend_url_sets_the_title_without_listing() -> None:
    world = ControllerWorld.serving()
    world.events.remember_setup(1, {"seed": "3"}, URL)
    world.settle()
    world.label_studio.reads.clear()
    before = world.leader_store.changes
    for address in ("http://127.0.0.1:9090", URL) * 3:
        world.events.remember_setup(1, None, address)
        world.tick(0.1)
        while world.controller.refresher.run_due_job(world.now):
            pass
    assert world.label_studio.reads.count("backends") == 1
    assert "count" not in world.label_studio.reads
    assert world.leader_store.changes == before + 1
    assert world.controller.projects.reconcilers[1].sync.connection.overrides == {"seed": "3"}


DAY = 86_400.0


def test_project_missing_for_a_day_is_served_no_more() -> None:
    """Label Studio sends no event for a deleted project."""
    world = ControllerWorld.serving()
    world.connect(2)
    key = world.view.project.key
    del world.label_studio.labels[1]
    world.settle()
    assert world.board.view(1) is None
    for _ in range(30):
        world.tick(DAY / 24)
        world.tick(1.0)
        world.tick(1.0)
    assert key not in world.registry.serving().projects
    assert world.board.view(2)


def test_project_missing_while_no_other_answers_stays_served() -> None:
    world = ControllerWorld.serving()
    key = world.view.project.key
    del world.label_studio.labels[1]
    for _ in range(60):
        world.tick(DAY / 24)
        world.tick(1.0)
    assert world.registry.serving().projects[key].current == "support-1"


def test_missing_project_that_comes_back_is_connected_again() -> None:
    world = ControllerWorld.serving()
    labels = world.label_studio.labels.pop(1)
    for _ in range(30):
        world.tick(DAY / 24)
        world.tick(1.0)
    world.restart()
    world.settle()
    assert world.board.view(1) is None
    world.label_studio.labels[1] = labels
    world.connect()
    world.settle()
    assert world.current == "support-1"
    world.restart()
    world.settle()
    assert world.current == "support-1"


def test_disconnected_project_is_trained_no_more_until_connected() -> None:
    world = ControllerWorld.serving()
    rows, world.label_studio.backend_rows[1] = world.label_studio.backend_rows[1], []
    for _ in range(30):
        world.tick(DAY / 24)
        world.tick(1.0)
    world.label_studio.label_many(6)
    world.settle()
    assert world.launcher.launched == ["1-1"]
    assert "disconnected in Label Studio" in world.view.sentence
    assert URL in world.view.problem
    world.restart()
    world.settle()
    assert world.launcher.launched == ["1-1"]
    world.label_studio.backend_rows[1] = rows
    for _ in range(3):
        world.tick(DAY / 24)
        world.tick(1.0)
    assert world.launcher.launched == ["1-1", "1-2"]
    assert world.view.problem == ""


def test_person_may_train_a_disconnected_project() -> None:
    world = ControllerWorld.serving()
    world.label_studio.backend_rows[1] = []
    for _ in range(30):
        world.tick(DAY / 24)
        world.tick(1.0)
    world.label_studio.label_many(1)
    world.command(Action.TRAIN)
    world.settle()
    assert world.launcher.launched == ["1-1", "1-2"]
