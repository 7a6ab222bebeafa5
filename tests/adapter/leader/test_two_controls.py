"""Which control of a label config is trained, and what happens to versions of another one."""

from __future__ import annotations

from services.core.domain import Action, Project
from tests.support.controller import ControllerWorld, build_settings
from tests.support.labelstudio import URL

MOOD = '<Choices name="mood" toName="text"><Choice value="glad"/><Choice value="sad"/></Choices>'
SPANS = '<Choices name="spans" toName="text" perRegion="true"><Choice value="x"/></Choices>'


def moods(world: ControllerWorld, count: int = 6) -> None:
    for place in range(count):
        world.label_studio.label(world.label_studio.add_task(), ("glad", "sad")[place % 2], control="mood")


def switched() -> ControllerWorld:
    """A project that serves a version of `label`, and whose backend's extra parameters now name `mood`."""
    world = ControllerWorld.serving()
    world.label_studio.more_controls = MOOD + SPANS
    moods(world, 4)
    world.settle()
    assert world.launcher.launched == ["1-1"]
    world.events.remember_setup(1, {"control": "mood"}, URL)
    world.settle()
    return world


def test_another_control_is_trained_at_once() -> None:
    world = switched()
    request = world.requests()[-1]
    assert (request.run, request.parameters.control) == ("1-2", "mood")
    assert request.cause == "the trained control changed from 'label' to 'mood'"
    assert world.view.space is not None
    assert world.view.space.labels == ("glad", "sad")
    assert world.view.labelled == 4


def test_version_of_another_control_suggests_nothing() -> None:
    world = switched()
    assert (world.current, world.view.foreign) == ("support-1", ("support-1",))
    assert "support-1 was made for another control than 'mood'" in world.view.problem
    pushed = len(world.label_studio.predictions)
    world.label_studio.add_task()
    world.settle()
    assert len(world.label_studio.predictions) == pushed


def test_version_of_the_new_control_replaces_it() -> None:
    world = switched()
    world.complete_run("1-2")
    assert world.current == "support-2"
    assert world.current not in world.view.foreign
    assert "another control" not in world.view.problem
    world.settle()
    assert world.launcher.launched == ["1-1", "1-2"]


def test_run_requested_before_the_control_changed_is_held() -> None:
    world = ControllerWorld.serving()
    world.label_studio.more_controls = MOOD
    world.label_studio.label_many(6)
    world.settle()
    assert world.launcher.launched[-1] == "1-2"
    moods(world)
    world.events.remember_setup(1, {"control": "mood"}, URL)
    world.settle()
    world.complete_run("1-2")
    assert world.current == "support-1"
    assert "held: support-2 answers 'label', and the project now trains 'mood'" in world.view.sentence
    assert (world.launcher.launched[-1], world.requests()[-1].parameters.control) == ("1-3", "mood")


def test_switching_back_is_another_switch() -> None:
    world = switched()
    world.complete_run("1-2")
    world.events.remember_setup(1, {}, URL)
    world.settle()
    assert world.launcher.launched[-1] == "1-3"
    assert world.view.foreign == ("support-2",)


def test_rollback_to_another_control_predicts_nothing() -> None:
    world = switched()
    world.complete_run("1-2")
    world.command(Action.ROLLBACK)
    world.settle()
    assert world.current == "support-1"
    assert "support-1" in world.view.foreign


def test_naming_the_default_control_changes_nothing() -> None:
    world = ControllerWorld.serving()
    world.events.remember_setup(1, {"control": "label"}, URL)
    world.settle()
    assert world.launcher.launched == ["1-1"]
    assert world.view.foreign == ()


def test_unknown_control_is_reported_and_trains_nothing() -> None:
    world = ControllerWorld.serving()
    world.events.remember_setup(1, {"control": "topic"}, URL)
    world.label_studio.label_many(12)
    world.settle()
    assert world.launcher.launched == ["1-1"]
    assert world.view.space is None
    assert "'topic'" in world.view.problem
    assert "'label'" in world.view.problem


def test_backend_parameters_override_settings() -> None:
    world = ControllerWorld(build_settings(controls="mood", projects={2: {"control": "label"}}))
    world.label_studio.more_controls = MOOD + MOOD.replace("mood", "tone")
    for project in (1, 2, 3):
        world.connect(project)
    world.events.remember_setup(3, {"control": "tone"}, URL)
    world.settle()
    asked = {number: view.space.from_name for number, view in world.board.views.items() if view.space}
    assert asked == {1: "mood", 2: "label", 3: "tone"}


def test_control_of_a_single_run_is_refused() -> None:
    world = ControllerWorld.serving()
    world.label_studio.more_controls = MOOD
    world.command(Action.TRAIN, control="mood")
    world.tick()
    assert "set for a project, not for a run" in world.view.problem
    assert world.inbox.commands() == []
    assert world.launcher.launched == ["1-1"]


def test_version_without_a_control_is_recognised_by_labels() -> None:
    world = ControllerWorld.serving()
    world.label_studio.more_controls = MOOD
    project: Project = world.view.project
    world.publish(project, "support-9", None)  # its manifest names no control
    world.command(Action.PROMOTE, "support-9")
    world.settle()
    assert (world.current, world.view.foreign) == ("support-9", ())
    world.events.remember_setup(1, {"control": "mood"}, URL)
    world.settle()
    assert "support-9" in world.view.foreign
