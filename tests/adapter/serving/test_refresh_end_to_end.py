"""Refreshes submitted by the controller: after promotions, new tasks and restarts, for our own backend."""

from __future__ import annotations

from services.core.domain import Action
from services.core.labelstudio import Backend
from tests.support.controller import ControllerWorld
from tests.support.labelstudio import URL


def test_promotion_and_rollback_refresh_predictions_and_title() -> None:
    world = ControllerWorld.serving()
    task = world.label_studio.add_task()
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-2")
    assert world.label_studio.backend_rows[1][0].title == "support-2"
    world.command(Action.ROLLBACK)
    world.settle()
    assert world.label_studio.backend_rows[1][0].title == "support-1"
    assert [row["model_version"] for row in world.label_studio.predictions if row["task"] == task] == [
        "support-1",
        "support-2",
    ]


def test_new_tasks_are_predicted_after_the_burst() -> None:
    world = ControllerWorld.serving()
    tasks = [world.label_studio.add_task() for _ in range(3)]
    for _ in tasks:
        world.event("TASKS_CREATED")
    world.tick()
    assert not world.controller.refresher.run_due_job(world.now)
    world.settle()
    assert [row["task"] for row in world.label_studio.predictions] == tasks
    assert world.label_studio.reads.count("count") == 2


def test_restart_repeats_only_an_unfinished_refresh() -> None:
    world = ControllerWorld()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    task = world.label_studio.add_task()
    world.train("1-1")
    world.tick(0.5)
    assert world.label_studio.predictions == []
    world.restart()
    world.settle()
    assert [row["task"] for row in world.label_studio.predictions] == [task]
    world.label_studio.reads.clear()
    world.restart()
    world.settle(8)
    assert world.label_studio.reads.count("count") == 1  # for tasks that came while nobody looked
    assert [row["task"] for row in world.label_studio.predictions] == [task]


def test_another_backend_url_gets_the_title() -> None:
    world = ControllerWorld.serving()
    world.label_studio.backend_rows[1] = [
        Backend(7, URL, "support-1"),
        Backend(8, "http://other:9090", "new"),
    ]
    world.events.remember_setup(1, {}, "http://other:9090/")
    world.settle()
    assert [backend.title for backend in world.label_studio.backend_rows[1]] == ["support-1", "support-1"]
