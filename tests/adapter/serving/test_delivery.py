"""The order of pushes, and the deletion of outdated predictions."""

from __future__ import annotations

import threading

from services.adapter.serving.refresh import RECHECK_SECONDS
from services.core.errors import LabelStudioUnreachable
from tests.adapter.serving.test_refresh import RefreshWorld, progress_of


def _switch(world: RefreshWorld, version: str) -> None:
    world.previous, world.current = world.current, version
    world.work(world.job(version))


def _stored(world: RefreshWorld) -> set[str]:
    return {row["model_version"] for row in world.label_studio.predictions}


def test_most_uncertain_tasks_are_pushed_first() -> None:
    world = RefreshWorld(3)
    world.work(world.job())
    for row, score in zip(world.label_studio.predictions, (0.9, 0.3, 0.6), strict=True):
        row["score"] = score
    new = world.label_studio.add_task()
    world.label_studio.predictions = world.label_studio.predictions[:3]
    _switch(world, "support-2")
    assert world.pushed[3:] == [2, 3, 1, new]


def test_first_push_follows_three_requests_and_the_last_the_limit() -> None:
    world = RefreshWorld(1000, max_tasks=400)
    world.work(world.job())
    reads = [what for what in world.label_studio.reads if what != "project"]
    assert reads.index("push") == 3
    assert reads.count("unlabelled") == 2
    assert len(world.pushed) == 400


def test_predictions_do_not_grow_with_versions() -> None:
    world = RefreshWorld(3)
    world.work(world.job())
    for number in range(2, 6):
        _switch(world, f"support-{number}")
        assert len(world.label_studio.predictions) == 6
    assert _stored(world) == {"support-4", "support-5"}


def test_predictions_of_others_and_labelled_tasks_are_kept() -> None:
    world = RefreshWorld(2)
    world.work(world.job())
    world.label_studio.push_predictions(1, [{**world.label_studio.predictions[0], "model_version": "mine"}])
    world.label_studio.label(2, "card")
    for number in (2, 3):
        _switch(world, f"support-{number}")
    kept = [(row["task"], row["model_version"]) for row in world.label_studio.predictions]
    assert kept == [(2, "support-1"), (1, "mine"), (1, "support-2"), (1, "support-3")]


def test_failed_deletion_is_retried_and_fails_no_refresh() -> None:
    world = RefreshWorld(1)
    world.work(world.job())
    _switch(world, "support-2")
    whole = world.label_studio.delete_prediction

    def fail(prediction_id: int) -> None:
        raise LabelStudioUnreachable(f"no answer to {prediction_id}")

    world.label_studio.delete_prediction = fail  # type: ignore[method-assign]
    _switch(world, "support-3")
    assert (world.title, progress_of(world).done, progress_of(world).problem) == ("support-3", True, "")
    world.label_studio.delete_prediction = whole  # type: ignore[method-assign]
    world.now += RECHECK_SECONDS
    while world.refresher.run_due_job(world.now):
        pass
    assert _stored(world) == {"support-2", "support-3"}


def test_hanging_project_does_not_hold_up_another() -> None:
    world = RefreshWorld(1)
    world.label_studio.add_project(2)
    hanging, released, done = threading.Event(), threading.Event(), threading.Event()
    whole, set_title = world.label_studio.count_unlabelled, world.label_studio.set_backend_title

    def hang(project_id: int) -> int:
        if project_id == 1:
            hanging.set()
            released.wait(30)
        return whole(project_id)

    def set_it(project_id: int, *args: object) -> None:
        set_title(project_id, *args)  # type: ignore[arg-type]
        if project_id == 2:
            done.set()

    world.label_studio.count_unlabelled = hang  # type: ignore[method-assign]
    world.label_studio.set_backend_title = set_it  # type: ignore[method-assign, assignment]
    job = world.job()
    world.refresher.start()
    try:
        world.refresher.submit(job)
        assert hanging.wait(30)
        world.refresher.submit(type(job)(2, "2-1", job.version, job.space, job.seen_url))
        assert done.wait(30)
    finally:
        released.set()
        world.refresher.stop()


def test_one_project_at_a_time_tries_an_absent_label_studio() -> None:
    world = RefreshWorld(1)
    for number in range(2, 6):
        world.label_studio.add_project(number)
    made = world.job()
    world.label_studio.down = LabelStudioUnreachable("no answer")
    for number in range(1, 6):
        world.refresher.submit(type(made)(number, made.project_key, made.version, made.space, made.seen_url))
    turns = 0
    while world.refresher.run_due_job(world.now):
        turns += 1
    assert turns == 2
    world.now += 1.0
    assert world.refresher.run_due_job(world.now)
    assert not world.refresher.run_due_job(world.now)
    world.label_studio.down = None
    world.now += 60.0
    while world.refresher.run_due_job(world.now):
        pass
    assert world.title == "support-1"
