"""A run is launched at every step; an error is reported, retried, and delays nothing else."""

from __future__ import annotations

from services.adapter.training.run_queue import RunQueue
from services.core.domain import RunRequest
from services.core.errors import BadConfig
from tests.support.controller import ControllerWorld, build_settings


def asked() -> ControllerWorld:
    """A project with a requested run."""
    world = ControllerWorld()
    world.connect()
    world.label_studio.label_many(6)
    return world


def test_launch_error_is_reported_and_retried() -> None:
    world = asked()
    world.launcher.error = BadConfig("The Job's manifest has no container named trainer.")
    world.settle()
    assert "Run 1-1 cannot be launched: The Job's manifest has no container" in world.view.problem
    assert world.view.changed == 6
    world.launcher.error = None
    world.tick(31.0)
    assert world.launcher.launched == ["1-1"]
    assert world.view.problem == ""


def test_launch_is_retried_with_backoff() -> None:
    world = asked()
    calls: list[float] = []
    world.launcher.error = BadConfig("No.")
    launch = world.launcher.launch

    def counted(request: RunRequest) -> None:
        calls.append(world.now)
        launch(request)

    world.launcher.launch = counted  # type: ignore[method-assign]
    for _ in range(120):
        world.tick(0.5)
    assert 4 < len(calls) < 10


def test_lost_process_is_replaced() -> None:
    world = asked()
    world.settle()
    world.launcher.active.clear()
    world.tick(0.5)
    assert world.launcher.launched == ["1-1", "1-1"]


def test_reason_why_a_run_waits_is_shown() -> None:
    world = asked()
    world.settle()
    world.launcher.report_waiting("1-1", "no node has a free nvidia.com/gpu")
    world.tick(0.5)
    assert "training support-1: waiting, because no node has a free nvidia.com/gpu" in world.view.sentence
    assert world.view.waiting == "no node has a free nvidia.com/gpu"
    world.complete_run("1-1")
    assert world.view.waiting == ""


def test_project_settings_rank_between_release_and_backend() -> None:
    own = {"1": {"method": "finetune", "seed": "3", "start_training_each_n_updates": "9"}}
    world = ControllerWorld(build_settings(projects=own))
    world.connect()
    world.connect(2)
    world.label_studio.label_many(6)
    world.label_studio.label_many(6, 2)
    world.settle()
    assert world.launcher.launched == ["2-1"]
    assert world.view.needed == 9
    world.end("2-1")
    world.label_studio.label_many(3)
    world.events.remember_setup(1, {"seed": "4"}, "http://fitloop:9090")
    world.settle()
    (request,) = world.requests()
    assert (request.parameters.method, request.parameters.seed) == ("finetune", 4)


def test_minimum_time_between_runs_yields_to_a_command() -> None:
    world = ControllerWorld(build_settings(min_seconds_between_runs=300.0))
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-1")
    world.label_studio.label_many(6)
    world.tick(20.0)
    assert world.launcher.launched == ["1-1"]
    assert "6 labelled tasks changed; the next run starts in" in world.view.sentence
    world.tick(300.0)
    assert world.launcher.launched == ["1-1", "1-2"]


def test_run_that_waits_for_resources_takes_no_turn() -> None:
    queue = RunQueue(1)
    queue.set_running(1, "1-1", waits=True)

    assert queue.enqueue(2, 10.0) == ""

    queue.set_running(2, "2-1")
    assert queue.enqueue(3, 11.0) == "waiting for run 2-1 and run 1-1 of another project"


def test_runs_that_wait_for_resources_are_bounded() -> None:
    queue = RunQueue(1)
    for project_id in range(1, 21):
        queue.set_running(project_id, f"{project_id}-1", waits=True)

    assert queue.enqueue(99, 10.0)

    queue.set_running(5, None)
    assert queue.startable() == [99]


def test_embed_runs_take_only_what_training_runs_leave() -> None:
    queue = RunQueue(2)
    assert queue.has_turn_to_embed(1)
    queue.set_embedding(1, "1-embed-1")
    queue.set_embedding(2, "2-embed-1")
    assert [queue.has_turn_to_embed(project) for project in (1, 2, 3)] == [True, True, False]
    queue.set_running(4, "4-1")
    assert [queue.has_turn_to_embed(project) for project in (1, 2, 3)] == [True, False, False]
    queue.set_embedding(2, None)
    queue.enqueue(5, 0.0)
    assert not queue.has_turn_to_embed(1)
    queue.dequeue(5)
    assert queue.has_turn_to_embed(1)
    queue.set_running(6, "6-1", waits=True)  # for a GPU, maybe the one that run 1-embed-1 holds
    assert not queue.has_turn_to_embed(1)
    queue.remove(1)
    queue.set_running(6, None)
    assert queue.has_turn_to_embed(3)
