"""The controller from labels to a served version, with everything around it in memory."""

from __future__ import annotations

import threading

import pytest

from services.adapter.state.documents import ProjectDocuments
from services.core.domain import Action, Command
from services.core.errors import CorruptVersion, LabelStudioUnreachable, StoreError
from tests.support.controller import ControllerWorld, build_settings, smoke_test_error
from tests.support.labelstudio import LABELS, URL
from tests.support.waiting import eventually


@pytest.fixture
def world() -> ControllerWorld:
    return ControllerWorld.connected()


@pytest.fixture
def serving() -> ControllerWorld:
    return ControllerWorld.serving()


def test_each_label_leads_to_a_version_without_a_pause() -> None:
    world = ControllerWorld(build_settings(every_n_updates=1, debounce_seconds=2.0))
    world.connect()
    world.label_studio.label_many(5)
    world.settle()
    world.complete_run("1-1")
    for number in (2, 4):
        world.label_studio.label_many(1)
        world.event()
        world.tick(30.0)
        assert world.launcher.launched[-1] == f"1-{number}", "the first event of a quiet project"
        world.label_studio.label_many(1)
        world.event()
        world.tick(0.2)
        world.train(f"1-{number}")
        world.end(f"1-{number}")
        world.controller.tick(world.now)
        world.tick(0.5)
        assert world.current == f"support-{number}"
        assert world.launcher.launched[-1] == f"1-{number + 1}", "what came during the run follows it"
        world.complete_run(f"1-{number + 1}")


def test_run_that_changed_is_seen_in_the_next_tick() -> None:
    world = ControllerWorld.connected()
    changed = {1}
    world.controller = world.build_controller(take_changed=lambda: {changed.pop()} if changed else set())
    world.label_studio.label_many(6)
    world.settle()
    world.train("1-1")
    world.tick(0.01)
    assert world.current is None
    changed.add(1)
    world.tick(0.01)
    assert world.current == "support-1"


def test_labels_lead_to_a_run_and_a_served_version(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.event()
    world.tick()
    assert world.launcher.launched == ["1-1"]
    world.train("1-1")
    world.tick(0.5)
    assert world.current == "support-1"
    assert "training support-1: linear-probe, step 40 of 120, 12 s left" in world.view.sentence
    world.end("1-1")
    world.settle()
    assert world.view.sentence.startswith("serving support-1: accuracy 51 % (42–59), cross-validated")
    assert world.launcher.launched == ["1-1"]


def test_pause_survives_a_restart(world: ControllerWorld) -> None:
    world.command(Action.PAUSE)
    world.tick()
    world.label_studio.label_many(6)
    world.restart()
    world.settle()
    assert world.view.paused
    assert "paused" in world.view.sentence
    assert world.launcher.launched == []
    world.command(Action.RESUME)
    world.tick()
    assert world.launcher.launched == ["1-1"]


def test_restart_resumes_an_active_run(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    world.restart()
    assert not world.board.ready.is_set()
    world.tick()
    assert world.board.ready.is_set()
    assert world.launcher.launched == ["1-1", "1-1"]
    world.complete_run("1-1")
    assert world.current == "support-1"


def test_board_is_restored_before_label_studio_answers(serving: ControllerWorld) -> None:
    serving.label_studio.down = LabelStudioUnreachable("Label Studio does not answer.")
    serving.restart()
    serving.tick()
    assert serving.current == "support-1"
    assert serving.view.space
    assert serving.view.space.labels == LABELS
    assert serving.view.problem == "Label Studio does not answer."
    assert serving.rollout.asked[-1] == "support-1"
    serving.label_studio.label_many(6)
    serving.label_studio.down = None
    serving.settle()
    assert serving.view.problem == ""
    assert serving.launcher.launched == ["1-1", "1-2"]


def test_broken_served_version_falls_back_to_previous(
    serving: ControllerWorld,
) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.complete_run("1-2")
    serving.rollout.broken["support-2"] = CorruptVersion("File 'x' differs.")
    serving.restart()
    serving.tick()
    assert serving.current == "support-1"
    assert (
        serving.view.problem == "support-2 cannot be served: File 'x' differs. support-1 is served instead."
    )
    serving.rollout.broken["support-1"] = smoke_test_error("support-1")
    serving.restart()
    serving.tick()
    assert serving.current == "support-1"
    assert "Nor can support-2" in serving.view.problem


def test_broken_only_version_is_reported(serving: ControllerWorld) -> None:
    serving.rollout.broken["support-1"] = CorruptVersion("File 'x' differs.")
    serving.restart()
    serving.tick()
    assert serving.view.problem.endswith("There is no version before it: train again.")


def test_deleted_project_leaves_the_board(serving: ControllerWorld) -> None:
    del serving.label_studio.labels[1]
    serving.command(Action.TRAIN)
    serving.settle()
    assert serving.board.views == {}
    assert len(serving.inbox.commands()) == 1


def test_reused_project_id_starts_from_scratch(serving: ControllerWorld) -> None:
    serving.label_studio.add_project(1)
    serving.label_studio.label_many(6)
    serving.settle()
    assert serving.current is None
    assert serving.requests()[-1].project_key == serving.view.project.key
    assert len(serving.requests()) == 2
    assert len(serving.registry.projects()) == 2
    serving.restart()
    serving.tick()
    assert serving.current is None


def test_undiscovered_project_is_shown_with_its_problem() -> None:
    world = ControllerWorld()
    world.label_studio.add_project()
    world.label_studio.down = LabelStudioUnreachable("Label Studio does not answer.")
    world.event("SETUP")
    world.tick()
    assert world.view.problem == "Label Studio does not answer."
    world.label_studio.down = None
    world.settle()
    assert world.view.project.title == "Support"
    assert world.view.problem == ""


def test_event_of_a_missing_project_is_dropped() -> None:
    world = ControllerWorld()
    world.event()
    world.tick()
    assert world.board.views == {}


def test_setup_does_not_poll_labels(world: ControllerWorld) -> None:
    world.settle()
    world.label_studio.reads.clear()
    world.event("SETUP")
    world.tick(3.0)
    assert world.label_studio.reads == []


def test_setup_data_is_stored(world: ControllerWorld) -> None:
    world.events.remember_setup(1, {"seed": "3"}, URL)
    world.tick()
    kept = ProjectDocuments(world.store, world.view.project.key).connection()
    assert (kept.overrides, kept.seen_url) == ({"seed": "3"}, URL)


async def test_command_that_cannot_be_stored_is_not_accepted(world: ControllerWorld) -> None:
    command = Command("1", 1, Action.TRAIN)
    world.leader_store.fail_at, world.leader_store.error = (
        world.leader_store.changes + 1,
        StoreError("The disk is full."),
    )
    with pytest.raises(StoreError):
        await world.events.submit(command)
    await world.events.submit(command)
    assert world.inbox.commands() == [command]


def test_full_disk_is_reported_and_work_resumes(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.leader_store.fail_at, world.leader_store.error = (
        world.leader_store.changes + 1,
        StoreError("The disk is full."),
    )
    world.tick(20.0)
    assert world.launcher.launched == []
    assert world.view.problem == "The disk is full."
    world.tick(1.0)
    world.tick(1.0)
    assert world.launcher.launched == ["1-1"]
    assert world.view.problem == ""


def test_next_tick_is_soon_only_while_a_run_is_active(world: ControllerWorld) -> None:
    world.settle()
    assert world.tick() > 0.5
    world.label_studio.label_many(6)
    world.settle()
    assert world.tick() == 0.5


def test_threads_reconcile_without_ticks_from_outside() -> None:
    world = ControllerWorld(build_settings(debounce_seconds=0.0, reconcile_seconds=0.1))
    world.label_studio.add_project()
    world.label_studio.label_many(6)
    unlabelled = [world.label_studio.add_task() for _ in range(3)]
    replica = world.build_replica()
    replica.start()
    try:
        world.event("SETUP")
        world.events.remember_setup(1, {}, URL)
        eventually(lambda: world.launcher.launched, every=0.01)
        world.train("1-1")
        world.end("1-1")
        world.wakeup.set()
        eventually(lambda: world.label_studio.backend_rows[1][0].title == "support-1", every=0.01)
        assert {row["task"] for row in world.label_studio.predictions} == set(unlabelled)
    finally:
        replica.stop()
    assert not [thread for thread in threading.enumerate() if thread.name in ("replica", "refresh")]


def test_unexpected_error_in_a_tick_does_not_end_the_thread(
    world: ControllerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [StoreError("The disk is gone."), ValueError("a bug")]
    monkeypatch.setattr("services.adapter.replica._RETRY_SECONDS", 0.01)
    monkeypatch.setattr("services.adapter.replica._ERROR_SECONDS", 0.01)
    world.restart()
    replica = world.build_replica()
    tick = replica.tick

    def fails(now: float) -> float:
        if errors:
            raise errors.pop()
        return tick(now)

    monkeypatch.setattr(replica, "tick", fails)
    replica.start()
    try:
        eventually(world.board.ready.is_set, every=0.01)
    finally:
        replica.stop()
