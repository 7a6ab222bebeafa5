"""A delivery of a version whose answers a class of the operator's computes."""

from __future__ import annotations

from dataclasses import replace

from services.core.errors import ModelClassError
from tests.adapter.serving.test_refresh import RefreshWorld

CONFIG = "<View/>"


def test_unlabelled_tasks_get_what_the_class_answers() -> None:
    world = RefreshWorld(70)
    world.label_studio.label(1, "card")
    world.work(replace(world.job(), space=None, own_model_config=CONFIG))
    assert world.pushed == world.tasks[1:]
    assert {row["model_version"] for row in world.label_studio.predictions} == {"support-1"}
    assert "text" in world.label_studio.predictions[0]["result"][0]["value"]
    assert [len(call.tasks) for _, _, call in world.inference.calls] == [32, 32, 5]
    assert world.inference.calls[0][2].label_config == CONFIG
    assert world.inference.asked == []
    assert world.title == "support-1"


def test_the_limit_of_tasks_holds() -> None:
    world = RefreshWorld(70, max_tasks=40)
    world.work(replace(world.job(), space=None, own_model_config=CONFIG))
    assert len(world.pushed) == 40


def test_a_failing_class_is_said_and_asked_again() -> None:
    world = RefreshWorld(5)
    world.inference.error = ModelClassError("own:Model failed in `predict`: KeyError: 'x'.")
    world.work(replace(world.job(), own_model_config=CONFIG))
    progress = world.refresher.progress(1)
    assert progress is not None
    assert "own:Model failed in `predict`: KeyError" in progress.problem
    world.inference.error = None
    world.now += 60
    world.work(world.refresher.progress(1).job)  # type: ignore[union-attr]  # as above
    assert world.pushed == world.tasks
