"""Runs of kind `embed`: after connecting and importing, one at a time, and never at the cost of a training run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.adapter.metrics import leader_metrics
from services.core.domain import EMBED, Action, PoolState, RunState, RunStatus
from services.core.errors import FitloopError, StoreUnreachable
from tests.support.controller import ControllerWorld, build_settings

FIRST = "1-embed-1"


def _connected(tasks: int = 20, **trigger: Any) -> ControllerWorld:
    world = ControllerWorld(build_settings(**{"embed_seconds": 300.0, **trigger}))
    world.label_studio.add_project()
    for _ in range(tasks):
        world.label_studio.add_task()
    world.connect()
    world.settle()
    return world


def _end(
    world: ControllerWorld,
    run: str,
    outcome: RunState = RunState.DONE,
    code: int | None = 0,
    pool: PoolState | None = None,
) -> None:
    status = world.runs.status(run) or RunStatus(run, RunState.RUNNING)
    world.runs.write(replace(status, state=outcome, exit_code=code, message="It broke.", pool=pool))
    world.launcher.end(run, outcome, code, world.now)
    world.tick(1.0)
    world.tick(1.0)


def _finished(outcome: RunState) -> float:
    counted = leader_metrics._embed_finished.labels("1", outcome)
    return float(next(iter(counted.collect())).samples[0].value)


def test_connected_project_gets_one_run() -> None:
    world = _connected()
    assert world.launcher.launched == [FIRST]
    request = world.runs.request(FIRST)
    assert request is not None
    assert (request.kind, request.labels, request.parameters.budget_seconds) == (EMBED, None, 300.0)
    assert request.parameters.control == "label"
    world.settle()
    assert world.launcher.launched == [FIRST]
    assert world.runs.names(1) == []


def test_run_is_shown_as_what_it_is() -> None:
    world = _connected()
    world.runs.write(RunStatus(FIRST, RunState.RUNNING, "features", 7, 20))
    world.settle()
    assert "computing features of unlabelled texts (run 1-embed-1): 7 of 20" in world.view.sentence
    assert (world.view.embedding is not None, world.view.active is None) == (True, True)
    _end(world, FIRST, pool=PoolState(20, 0, 20, 20))
    assert world.view.embedding is None
    assert world.view.figures.pool == PoolState(20, 0, 20, 20)


def test_new_tasks_start_another_run_once() -> None:
    world = _connected()
    _end(world, FIRST, pool=PoolState(20, 0, 20, 20))
    assert world.launcher.launched == [FIRST]
    for _ in range(5):
        world.label_studio.add_task()
    world.event("TASKS_CREATED")
    world.settle()
    assert world.launcher.launched == [FIRST, "1-embed-2"]
    request = world.runs.request("1-embed-2")
    assert request is not None
    assert request.cause == "5 tasks were added"
    _end(world, "1-embed-2", pool=PoolState(25, 0, 25, 5))
    assert len(world.launcher.launched) == 2
    world.now += 2 * 86_400
    world.settle()
    assert world.runs.embed_names(1) == ["1-embed-2"]  # the daily sweep deletes earlier ones


def test_zero_seconds_turn_runs_off() -> None:
    assert _connected(embed_seconds=0.0).launcher.launched == []


def test_training_run_ends_it_and_leaves_the_rest_to_the_next() -> None:
    world = _connected()
    world.label_studio.label_many(6)
    world.event()
    world.settle()
    assert world.launcher.launched == [FIRST, "1-1"]
    launch = world.runs.launch_state(FIRST)
    assert launch is not None
    assert launch.outcome is RunState.CANCELLED
    world.settle()
    assert world.launcher.launched == [FIRST, "1-1"]
    status = RunStatus("1-1", RunState.RUNNING, pool=PoolState(20, 15, 26, 5))
    world.runs.write(status)
    world.complete_run("1-1")
    assert world.launcher.launched == [FIRST, "1-1", "1-embed-2"]
    request = world.runs.request("1-embed-2")
    assert request is not None
    assert request.cause == "the unlabelled texts have no features"


def test_pool_of_a_training_run_is_taken_over() -> None:
    world = _connected()
    _end(world, FIRST, pool=PoolState(20, 0, 20, 20))
    world.label_studio.label_many(6)
    world.event()
    world.settle()
    world.train("1-1")
    status = world.runs.status("1-1")
    assert status is not None
    world.runs.write(replace(status, pool=PoolState(20, 0, 26, 0)))
    world.end("1-1")
    world.settle()
    assert world.view.figures.pool == PoolState(20, 0, 26, 0)
    assert world.launcher.launched == [FIRST, "1-1"]


def test_runs_of_other_projects_come_first() -> None:
    world = _connected()
    world.label_studio.add_project(2)
    world.label_studio.label_many(6, 2)
    world.connect(2)
    world.settle()
    assert world.launcher.launched[:2] == [FIRST, "2-1"]
    launch = world.runs.launch_state(FIRST)
    assert launch is not None
    assert launch.outcome is RunState.CANCELLED
    world.settle()
    assert "1-embed-2" not in world.launcher.launched
    world.train("2-1")
    world.end("2-1")
    world.settle()
    assert "1-embed-2" in world.launcher.launched


def test_failed_run_is_repeated_later_and_is_no_failed_training() -> None:
    world = _connected()
    before = _finished(RunState.FAILED)
    _end(world, FIRST, RunState.FAILED, 1)
    assert _finished(RunState.FAILED) == before + 1
    assert world.view.figures.failed_in_a_row == 0
    assert (
        "Run 1-embed-1, which computes features of unlabelled texts, failed: It broke." in world.view.problem
    )
    assert world.launcher.launched == [FIRST]
    world.settle()
    assert world.launcher.launched == [FIRST, "1-embed-2"]
    _end(world, "1-embed-2", RunState.DONE, 0, PoolState(20, 0, 20, 20))
    assert world.view.problem == ""


def test_permanent_failure_is_not_repeated() -> None:
    world = _connected()
    _end(world, FIRST, RunState.FAILED, 78)
    world.settle(20)
    assert world.launcher.launched == [FIRST]


def test_paused_project_starts_none() -> None:
    world = _connected()
    world.command(Action.PAUSE)
    world.settle()
    launch = world.runs.launch_state(FIRST)
    assert launch is not None
    assert launch.outcome is RunState.CANCELLED
    world.settle()
    assert world.launcher.launched == [FIRST]


def test_next_leader_continues_the_run() -> None:
    world = _connected()
    world.restart()
    world.settle()
    assert world.launcher.launched == [FIRST, FIRST]  # by another process: the first one is lost
    _end(world, FIRST, pool=PoolState(20, 0, 20, 20))
    world.restart()
    world.settle()
    assert world.launcher.launched == [FIRST, FIRST]


def test_lost_request_is_written_again() -> None:
    world = _connected()
    world.store.delete(f"runs/{FIRST}/request.json")
    world.restart()
    world.settle()
    request = world.runs.request(FIRST)
    assert request is not None
    assert request.kind == EMBED


def test_launcher_that_fails_is_retried() -> None:
    world = ControllerWorld(build_settings(embed_seconds=300.0))
    world.launcher.error = FitloopError("no quota")
    world.label_studio.add_project()
    world.label_studio.add_task()
    world.connect()
    world.settle()
    assert "Run 1-embed-1 cannot be launched: no quota" in world.view.problem
    world.launcher.error = None
    world.settle()
    assert world.launcher.launched == [FIRST]


@pytest.mark.parametrize("nth", range(1, 8))
def test_store_that_fails_anywhere_starts_one_run(nth: int) -> None:
    """Whichever write fails, one run is requested, and it is launched."""
    world = ControllerWorld(build_settings(embed_seconds=300.0))
    world.label_studio.add_project()
    world.label_studio.add_task()
    writes = 0
    write = world.leader_store.write

    def fail_once(key: str, data: bytes) -> None:
        nonlocal writes
        writes += 1
        if writes == nth:
            raise StoreUnreachable("away")
        write(key, data)

    world.leader_store.write = fail_once  # type: ignore[method-assign]
    world.connect()
    world.settle(8)
    assert set(world.launcher.launched) == {FIRST}
    assert world.runs.embed_names(1) == [FIRST]
