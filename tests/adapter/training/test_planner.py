"""From labels, events and commands to runs, with everything around the controller in memory."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.core.domain import Action, RunState
from services.core.settings import TrainingSettings
from tests.support.controller import ControllerWorld, build_settings
from tests.support.labelstudio import URL


@pytest.fixture
def world() -> ControllerWorld:
    return ControllerWorld.connected()


@pytest.fixture
def serving() -> ControllerWorld:
    return ControllerWorld.serving()


def test_burst_of_events_causes_one_poll_and_one_run(world: ControllerWorld) -> None:
    world.label_studio.label_many(30)
    world.label_studio.reads.clear()
    for _ in range(30):
        world.event()
    for _ in range(10):
        world.tick(0.5)
    assert world.launcher.launched == ["1-1"]
    assert world.label_studio.reads.count("all") == 1


def test_steady_stream_of_events_still_starts_a_run(world: ControllerWorld) -> None:
    for _ in range(12):
        world.label_studio.label_many(1)
        world.event()
        world.tick(1.0)
    assert world.launcher.launched == ["1-1"]


def test_stream_of_requests_faster_than_polls_starts_a_run(world: ControllerWorld) -> None:
    """A replica replaces the waiting command with each request: none is still there when its poll has ended."""
    world.label_studio.label_many(5)
    world.workers.held.add("poll")
    waiting = world.command(Action.TRAIN, asked_by="anna")
    for _ in range(5):
        world.tick(1.0)
        world.inbox.delete_command(waiting)
        waiting = world.command(Action.TRAIN, asked_by="ben")
    world.workers.release()
    world.tick(0.1)
    assert world.launcher.launched == ["1-1"]
    (request,) = world.requests()
    assert (request.cause, request.asked_by) == ("requested", ("anna",))
    assert [command.id for command in world.inbox.commands()] == [waiting], (
        "it came after the labels were read"
    )


def test_few_labels_wait_with_their_number_on_the_board(world: ControllerWorld) -> None:
    world.label_studio.label_many(5)
    world.settle()
    assert world.view.sentence == "waiting: 5 of 6 labelled tasks changed"
    assert (world.view.labelled, world.view.changed, world.view.needed) == (5, 5, 6)


def test_lost_event_is_made_up_for_by_polling(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.tick(14.0)
    assert world.launcher.launched == []
    world.tick(1.0)
    assert world.launcher.launched == ["1-1"]


def test_single_label_starts_no_run(world: ControllerWorld) -> None:
    for _ in range(8):
        world.label_studio.label(world.label_studio.add_task(), "card")
    world.command(Action.TRAIN)
    world.settle()
    assert world.launcher.launched == []
    assert "label" in world.view.sentence
    assert len(world.inbox.commands()) == 1


def test_edits_and_deletions_count_as_changes(serving: ControllerWorld) -> None:
    for task, label in ((1, "card"), (2, "loan"), (3, "loan")):
        serving.label_studio.label(task, label)
    serving.label_studio.unlabel(4)
    serving.label_studio.delete_task(5)
    serving.settle()
    assert serving.launcher.launched == ["1-1"]
    assert "waiting: 5 of 6" in serving.view.sentence
    serving.label_studio.label_many(1)
    serving.settle()
    assert serving.launcher.launched == ["1-1", "1-2"]


def test_labels_made_after_the_request_count_as_changed(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    world.label_studio.label_many(3)
    world.train("1-1")
    world.label_studio.label_many(2)
    world.end("1-1")
    world.settle()
    assert world.launcher.launched == ["1-1"]
    assert "waiting: 5 of 6" in world.view.sentence
    (request,) = world.requests()
    assert request.labels
    assert request.labels.labelled == 6


def test_a_run_of_0_1_0_is_the_baseline(serving: ControllerWorld) -> None:
    """Its request names no labels: changes are counted from the snapshot that it wrote."""
    serving.take_snapshot("1-1")
    serving.label_studio.label_many(2)
    serving.command(Action.TRAIN)
    serving.restart()
    serving.settle()
    assert serving.launcher.launched == ["1-1", "1-2"]
    serving.end("1-2", RunState.FAILED, 64)
    serving.settle()
    assert serving.view.changed == 2


def test_a_done_run_of_0_1_0_is_not_repeated(serving: ControllerWorld) -> None:
    serving.take_snapshot("1-1")
    serving.restart()
    serving.command(Action.TRAIN)
    serving.settle()
    assert serving.launcher.launched == ["1-1"]
    assert "nothing has changed since run 1-1" in serving.view.sentence


def test_commands_during_a_run_become_one_pending_run(
    serving: ControllerWorld,
) -> None:
    serving.label_studio.label_many(1)
    serving.command(Action.TRAIN)
    serving.tick()
    assert serving.launcher.launched == ["1-1", "1-2"]
    serving.label_studio.label_many(1)
    commands = [serving.command(Action.TRAIN) for _ in range(3)]
    serving.tick(0.5)
    assert serving.view.pending
    serving.train("1-2", compared_with="support-1")
    serving.label_studio.label_many(1)
    serving.end("1-2")
    serving.settle()
    assert serving.launcher.launched == ["1-1", "1-2", "1-3"]
    assert serving.requests()[-1].commands == (commands[-1],)
    assert serving.inbox.commands() == []


def test_command_on_unchanged_labels_is_dismissed(
    serving: ControllerWorld,
) -> None:
    serving.command(Action.TRAIN)
    serving.tick()
    assert serving.launcher.launched == ["1-1"]
    assert "nothing has changed since run 1-1" in serving.view.sentence
    assert serving.inbox.commands() == []


def test_command_overrides_backend_overrides_settings(world: ControllerWorld) -> None:
    world.events.remember_setup(1, {"learning_rate": "0.25", "seed": "3"}, URL)
    world.label_studio.label_many(5)
    world.command(Action.TRAIN, learning_rate="0.5")
    world.settle()
    parameters = world.requests()[0].parameters
    assert (parameters.base_model, parameters.learning_rate, int(parameters.seed)) == ("tiny", 0.5, 3)
    assert world.requests()[0].asked == {"learning_rate": "0.5"}


def test_command_with_an_invalid_parameter_is_dropped(world: ControllerWorld) -> None:
    world.label_studio.label_many(5)
    world.command(Action.TRAIN, nonsense="1")
    world.tick()
    assert world.launcher.launched == []
    assert world.inbox.commands() == []
    assert "nonsense" in world.view.problem


def test_renamed_label_starts_a_run(serving: ControllerWorld) -> None:
    serving.label_studio.labels[1] = ("card", "credit", "other")
    serving.event("PROJECT_UPDATED")
    serving.settle()
    assert "'loan'" in serving.requests()[-1].cause
    serving.complete_run("1-2")
    assert len(serving.requests()) == 2
    assert serving.registry.projects()[0].label_config == serving.view.project.label_config


def test_unsupported_config_is_connected_with_a_reason(
    world: ControllerWorld,
) -> None:
    world.label_studio.labels[1] = ()
    world.event("PROJECT_UPDATED")
    world.settle()
    assert world.view.space is None
    assert "needs a <Choices>" in world.view.problem
    world.restart()
    world.tick()
    assert "needs a <Choices>" in world.view.problem


def test_cancel_ends_the_run_and_drops_earlier_commands(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    world.command(Action.TRAIN)
    world.command(Action.CANCEL)
    world.settle()
    assert world.launcher.launched == ["1-1"]
    assert world.inbox.commands() == []
    assert "was cancelled" in world.view.sentence
    world.label_studio.label_many(1)
    world.settle()
    assert world.launcher.launched == ["1-1", "1-2"]


def test_failed_run_is_retried_while_the_old_version_stays(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.end("1-2", RunState.FAILED, 1, "The disk is full.")
    serving.tick(0.5)
    assert serving.current == "support-1"
    assert serving.view.problem == "Run 1-2 failed: The disk is full."
    serving.tick(15.0)
    assert len(serving.requests()) == 2
    for _ in range(4):
        serving.tick(15.0)
    assert len(serving.requests()) == 3


def test_crashed_run_is_reported_with_its_exit_code(serving: ControllerWorld) -> None:
    serving.label_studio.label_many(6)
    serving.settle()
    serving.launcher.end("1-2", RunState.FAILED, -9, serving.now)
    serving.tick(0.5)
    assert serving.view.problem == "Run 1-2 ended with exit code -9: see its log."
    assert serving.view.last
    assert serving.view.last.state is RunState.FAILED


def test_missing_base_model_waits_for_other_settings(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    world.end("1-1", RunState.FAILED, 78, "No base model: set BASELINE_MODEL_NAME.")
    world.settle(300)
    assert world.launcher.launched == ["1-1"]
    assert "set BASELINE_MODEL_NAME" in world.view.problem
    training = world.settings.training.model_copy(update={"base_model": "there"})
    world.settings = replace(world.settings, training=training)
    world.restart()
    world.settle()
    assert world.launcher.launched == ["1-1", "1-2"]


def test_forbidden_base_model_is_ignored() -> None:
    chosen = build_settings()
    training = TrainingSettings(base_model="tiny", allowed_base_models=("acme/*",))
    world = ControllerWorld(replace(chosen, training=training))
    world.connect()
    world.events.remember_setup(1, {"base_model": "/etc"}, URL)
    world.label_studio.label_many(6)
    world.settle()
    request = world.runs.request("1-1")
    assert request is not None
    assert request.parameters.base_model == "tiny"
    assert "Ignored from the backend's extra parameters: Base model '/etc'" in world.view.problem
