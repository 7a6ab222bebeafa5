"""Projects whose class trains and predicts: any label config, and versions that are not evaluated."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from services.adapter.metrics.version_gauges import VERSION_GAUGES
from services.adapter.routes.summaries import version_summary
from services.core import documents
from services.core.domain import (
    Action,
    Artefact,
    ExpectedAccuracy,
    GateDecision,
    Manifest,
    Method,
    OwnModel,
    Published,
    RunState,
    RunStatus,
)
from services.core.settings import TrainingSettings
from tests.support.controller import ControllerWorld, build_settings
from tests.support.manifests import build_manifest

MODEL = "boxes.model:Boxes"


def _world(labels: tuple[str, ...] = (), **training: Any) -> ControllerWorld:
    """A connected project without a usable control, unless it has labels."""
    given = {"method": "label-studio-ml", "model": MODEL, **training}
    settings = build_settings(embed_seconds=300.0, cold_start=True)
    world = ControllerWorld(replace(settings, training=TrainingSettings(base_model="tiny", **given)))
    world.label_studio.add_project(1, labels)
    world.connect()
    return world


def _annotate(world: ControllerWorld, count: int) -> None:
    """Annotate tasks in a way that no rule of Fitloop's can read."""
    for _ in range(count):
        world.label_studio.label(world.label_studio.add_task(), "x", control="box")


def _complete(world: ControllerWorld, run: str, *, promote: bool = True) -> str:
    project, _ = world.label_studio.project(1)
    version = f"support-{run.partition('-')[2]}"
    served = world.registry.serving().projects.get(project.key)
    compared_with = served.current if served else None
    manifest: Manifest = replace(
        build_manifest(version, project.key, ()),
        method=Method.LABEL_STUDIO_ML,
        artefact=Artefact("label-studio-ml", "label-studio-ml", "", 0, 1.0),
        estimate=replace(build_manifest(version).estimate, judged=0, right=0, source=""),
        gate=GateDecision(promote, "not-evaluated", ("Promoted: not evaluated.",), compared_with),
        expected=ExpectedAccuracy(None, reason="not evaluated"),
        created_at=world.now,
        own_model=OwnModel(MODEL, 1.0, {"map": 0.5}, 20, 18, {"label": 2}, 0.01),
    )
    world.store.write(f"projects/{project.key}/versions/{version}/manifest.json", documents.dump(manifest))
    status = RunStatus(run, RunState.RUNNING, published=(Published(version, promote, "Gate."),))
    world.runs.write(status)
    world.end(run)
    world.settle()
    return version


def test_any_label_config_is_counted_and_trained() -> None:
    world = _world()
    _annotate(world, 5)
    world.settle()
    assert world.view.space is None
    assert world.view.problem == ""
    assert (world.view.labelled, world.view.changed, world.view.not_counted) == (5, 5, ())
    assert world.launcher.launched == []
    _annotate(world, 1)
    world.event()
    world.settle()
    assert world.launcher.launched == ["1-1"]
    (request,) = world.requests()
    assert (request.parameters.method, request.parameters.model) == (Method.LABEL_STUDIO_ML, MODEL)
    assert request.labels is not None
    assert (request.labels.labelled, request.labels.space) == (6, None)


def test_one_annotated_task_is_enough_for_a_command() -> None:
    world = _world()
    world.command(Action.TRAIN)
    world.settle()
    assert world.launcher.launched == []
    assert "No task has been labelled yet" in world.view.sentence
    _annotate(world, 1)
    world.event()
    world.settle()
    assert world.launcher.launched == ["1-1"]


def test_versions_that_are_not_evaluated_replace_each_other() -> None:
    world = _world()
    _annotate(world, 6)
    world.settle()
    first = _complete(world, "1-1")
    assert world.current == first
    assert f"serving {first}: not evaluated" in world.view.sentence
    assert world.view.figures.current is not None
    assert not world.view.figures.current.is_evaluated
    _annotate(world, 6)
    world.event()
    world.settle()
    assert world.launcher.launched == ["1-1", "1-2"]
    assert _complete(world, "1-2") == world.current


def test_a_held_version_is_not_served() -> None:
    world = _world()
    _annotate(world, 6)
    world.settle()
    _complete(world, "1-1", promote=False)
    assert world.current is None


def test_no_version_is_made_from_label_names() -> None:
    world = _world(("card", "loan"))
    for _ in range(20):
        world.label_studio.add_task()
    world.event("TASKS_CREATED")
    world.settle()
    assert world.launcher.launched == []
    assert not any(
        "label" in hint.lower() and "name" in hint and "suggest" in hint for hint in world.view.hints
    )


def test_metrics_and_commands_say_that_it_is_not_evaluated() -> None:
    world = _world()
    _annotate(world, 6)
    world.settle()
    version = _complete(world, "1-1")
    found = {gauge.name: list(gauge.values(world.view, world.view.served)) for gauge in VERSION_GAUGES}
    assert found["fitloop_version_evaluated"] == [((), 0.0)]
    assert found["fitloop_version_score_ratio"] in ([], [((), None)])
    assert found["fitloop_version_info"] == [((version, "label-studio-ml", "label-studio-ml"), 1.0)]
    manifest = world.registry.manifest(world.view.project.key, version)
    row = version_summary(manifest, world.view.served)
    assert (row["base_model"], row["right"], row["served"]) == (MODEL, "not evaluated", True)
    assert row["own_model"]["metrics"] == {"map": 0.5}


@pytest.mark.parametrize("given", [{"model": "os.path:join"}, {"model": "a:B", "method": "label-studio-ml"}])
def test_commands_choose_no_class(given: dict[str, str]) -> None:
    world = _world()
    _annotate(world, 1)
    world.settle()
    world.command(Action.TRAIN, **given)
    world.tick(3)
    assert "is not allowed by FITLOOP_ALLOWED_MODELS" in world.view.problem
    world.settle()
    assert world.launcher.launched == []
    assert list(world.inbox.commands()) == []
