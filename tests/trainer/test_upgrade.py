"""A trainer of this release in a bucket of release 0.1.0: what that release published is what a new version is compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from services.core.domain import RunState
from tests.support.labelstudio import FakeLabelStudio
from tests.support.release_0_1_0 import fill, unpack
from tests.support.trainer import TrainerWorld


def upgraded(folder: Path, base: Path) -> TrainerWorld:
    bucket, known = unpack(folder)
    world = TrainerWorld(bucket, base, FakeLabelStudio())
    fill(world.labelstudio, known)
    return world


def test_new_version_is_compared_with_one_of_0_1_0(tmp_path: Path, tiny: Path) -> None:
    world = upgraded(tmp_path, tiny)
    world.label(12)
    run = world.request()
    assert run == "1-4"
    world.train(run)
    status = world.status(run)
    assert status.state is RunState.DONE
    (published,) = status.published
    assert published.version == "support-4"
    assert world.manifest("support-4").gate.compared_with == "support-2", "which is served"
    assert world.registry.versions(world.key) == ["support-1", "support-2", "support-3", "support-4"]


def test_run_that_0_1_0_requested_is_carried_through(tmp_path: Path, tiny: Path) -> None:
    world = upgraded(tmp_path, tiny)
    request = world.runs.request("2-3")
    assert request
    parameters = replace(request.parameters, base_model=str(tiny))  # the folder of then is not here
    world.runs.write(replace(request, parameters=parameters))
    world.train("2-3")
    assert world.status("2-3").state is RunState.DONE
    snapshot = world.runs.snapshot("2-3")
    assert snapshot
    assert len(snapshot.tasks) == 60, "the leader counts changes from here"
