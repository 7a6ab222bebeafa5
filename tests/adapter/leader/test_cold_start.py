"""A project without labels serves a version from their names, until one that was trained takes its place."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from services.adapter.state.documents import ProjectDocuments, PromotionResult
from services.core.domain import Action, Method, NamesResult, PoolState, Published, RunState, RunStatus
from services.core.errors import EngineError
from services.core.runs import names_version_name
from tests.support.controller import ControllerWorld, build_settings

FIRST = "1-embed-1"
MADE = "support-label-names-only-1"
NUMBERS = ("1", "2", "3")


def _connected(labels: tuple[str, ...] | None = None, **trigger: Any) -> ControllerWorld:
    world = ControllerWorld(build_settings(**{"embed_seconds": 300.0, "cold_start": True, **trigger}))
    world.label_studio.add_project(1, *([labels] if labels else []))
    for _ in range(20):
        world.label_studio.add_task()
    world.connect()
    world.settle()
    return world


def _make(world: ControllerWorld, run: str, *, texts: int = 20, reason: str = "") -> None:
    """Publish the version that the run was asked for, as the trainer does; the run goes on."""
    project, _ = world.label_studio.project(1)
    published: tuple[Published, ...] = ()
    version = "" if reason else names_version_name(project, None, run)
    if version:
        world.publish(project, version, None, run, "label", Method.ZERO_SHOT)
        published = (Published(version, True, "Made from label names only."),)
    status = RunStatus(run, RunState.RUNNING, published=published, names=NamesResult(texts, version, reason))
    world.runs.write(status)


def _end(world: ControllerWorld, run: str, tasks: int = 20) -> None:
    status = world.runs.status(run)
    assert status is not None
    world.runs.write(
        replace(status, state=RunState.DONE, exit_code=0, pool=PoolState(tasks, 0, tasks, tasks))
    )
    world.launcher.end(run, RunState.DONE, 0, world.now)
    world.settle()


def _serving() -> ControllerWorld:
    world = _connected()
    _make(world, FIRST)
    _end(world, FIRST)
    assert world.current == MADE
    return world


def _outcome(world: ControllerWorld, version: str) -> PromotionResult | None:
    found = ProjectDocuments(world.store, world.view.project.key).outcome(version)
    return found.fate if found else None


def _advice(world: ControllerWorld) -> list[str]:
    return [hint for hint in world.view.hints if hint.startswith("There are no suggestions")]


def _asked(world: ControllerWorld, run: str) -> bool:
    request = world.runs.request(run)
    assert request is not None
    return bool(request.label_names)


def test_version_is_served_while_its_run_goes_on() -> None:
    world = _connected()
    assert world.launcher.launched == [FIRST]
    assert _asked(world, FIRST)
    assert "making suggestions from label names" in world.view.sentence
    _make(world, FIRST)
    world.settle()
    assert world.current == MADE
    assert world.view.embedding is not None
    assert f"serving {MADE}: from label names only, not evaluated" in world.view.sentence
    assert world.view.version_names == (MADE,)
    assert world.view.figures.current is not None
    assert world.view.figures.current.method == "zero-shot"
    assert {row["model_version"] for row in world.label_studio.predictions} == {MADE}
    assert world.view.unevaluated == (MADE,)
    assert not any("score" in region for row in world.label_studio.predictions for region in row["result"])
    _end(world, FIRST)
    assert world.launcher.launched == [FIRST]


def test_setting_turns_it_off() -> None:
    world = _connected(cold_start=False)
    assert not _asked(world, FIRST)
    assert _advice(world) == []


def test_names_that_say_nothing_get_a_reason() -> None:
    world = _connected(NUMBERS)
    assert not _asked(world, FIRST)
    (hint,) = _advice(world)
    assert "'1', '2', '3'" in hint
    assert world.current is None


def test_reason_of_the_run_is_shown() -> None:
    world = _connected()
    _make(world, FIRST, reason="There are no suggestions: the base model cannot tell them apart.")
    _end(world, FIRST)
    assert _advice(world) == ["There are no suggestions: the base model cannot tell them apart."]
    assert world.launcher.launched == [FIRST]


def test_trained_version_takes_its_place_for_good() -> None:
    world = _serving()
    world.label_studio.label_many(6)
    world.event()
    world.settle()
    assert world.complete_run("1-1") == "support-1"
    assert (world.current, world.view.served.previous) == ("support-1", MADE)
    assert world.view.version_names == ("support-1", MADE)
    for _ in range(100):
        world.label_studio.add_task()
    world.label_studio.labels[1] = ("card", "loan", "other", "new")
    world.event("PROJECT_UPDATED")
    world.settle()
    assert [_asked(world, run) for run in world.launcher.launched if "embed" in run and run != FIRST] == [
        False
    ]


def test_version_that_was_made_before_its_run_was_ended_is_served() -> None:
    world = _connected()
    _make(world, FIRST)
    world.label_studio.label_many(6)
    world.event()
    world.settle()
    assert world.launcher.launched == [FIRST, "1-1"]
    assert world.current == MADE


def test_late_version_does_not_replace_a_trained_one() -> None:
    world = _connected()
    world.label_studio.label_many(6)
    world.event()
    world.settle()
    world.complete_run("1-1", compared_with=None)
    assert world.current == "support-1"
    last = world.launcher.launched[-1]
    assert not _asked(world, last)


def test_pin_and_rollback_are_kept() -> None:
    world = _serving()
    world.label_studio.label_many(6)
    world.event()
    world.settle()
    world.complete_run("1-1")
    world.command(Action.ROLLBACK)
    world.settle()
    assert (world.current, world.view.served.pinned) == (MADE, True)
    launched = len(world.launcher.launched)
    world.label_studio.labels[1] = ("cards", "loans", "others")
    world.event("PROJECT_UPDATED")
    world.settle()
    assert not any(_asked(world, run) for run in world.launcher.launched[launched:] if "embed" in run)


def test_pinned_version_is_not_replaced_by_one_under_way() -> None:
    world = _serving()
    world.label_studio.labels[1] = ("cards", "loans", "others")
    world.event("PROJECT_UPDATED")
    world.settle()
    assert world.launcher.launched == [FIRST, "1-embed-2"]
    world.command(Action.PROMOTE, MADE)
    world.tick()
    _make(world, "1-embed-2")
    world.settle()
    assert world.current == MADE
    assert _outcome(world, "support-label-names-only-2") is PromotionResult.HELD


def test_other_names_and_many_texts_make_another() -> None:
    world = _serving()
    world.label_studio.labels[1] = ("cards", "loans", "others")
    world.event("PROJECT_UPDATED")
    world.settle()
    _make(world, "1-embed-2")
    _end(world, "1-embed-2")
    assert world.current == "support-label-names-only-2"
    for _ in range(5):
        world.label_studio.add_task()
    world.event("TASKS_CREATED")
    world.settle()
    assert not _asked(world, "1-embed-3")
    _end_without_version(world, "1-embed-3", 25)
    for _ in range(15):
        world.label_studio.add_task()
    world.event("TASKS_CREATED")
    world.settle()
    assert _asked(world, "1-embed-4")
    _make(world, "1-embed-4", texts=40)
    _end(world, "1-embed-4", 40)
    assert world.current == "support-label-names-only-4"
    assert len(world.launcher.launched) == 4


def _end_without_version(world: ControllerWorld, run: str, tasks: int) -> None:
    world.runs.write(RunStatus(run, RunState.RUNNING))
    _end(world, run, tasks)


def test_next_leader_knows_the_version() -> None:
    world = _connected()
    _make(world, FIRST)
    world.tick(1.0)
    world.restart()
    world.settle()
    assert world.current == MADE
    _end(world, FIRST)
    world.restart()
    world.settle()
    assert world.current == MADE
    assert world.launcher.launched == [FIRST, FIRST]
    assert world.view.version_names == (MADE,)


def test_retention_keeps_what_is_served() -> None:
    world = _serving()
    world.now += 3 * 86_400
    world.settle()
    assert world.registry.manifest(world.view.project.key, MADE).method is Method.ZERO_SHOT
    assert world.view.problem == ""


def test_refused_version_is_not_made_again() -> None:
    world = _connected()
    world.rollout.broken[MADE] = EngineError("It cannot be loaded.")
    _make(world, FIRST)
    _end(world, FIRST)
    assert world.current is None
    assert "was refused" in world.view.problem
    assert world.launcher.launched == [FIRST]
    assert _outcome(world, MADE) is PromotionResult.REFUSED
