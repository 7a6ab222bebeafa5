"""Refreshes submitted by the controller: after promotions, new tasks and restarts, for our own backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.core import documents
from services.core.domain import Action, Manifest
from services.core.features import key_array
from services.core.immutable import entry_of
from services.core.labels import text_key
from services.core.labelstudio import Backend
from services.core.pool import PREDICTIONS, PoolPredictions
from tests.support.controller import ControllerWorld
from tests.support.labelstudio import URL


def test_promotion_and_rollback_refresh_predictions_and_title() -> None:
    world = ControllerWorld.serving()
    task = world.label_studio.add_task()
    world.label_studio.label_many(6)
    world.settle()
    world.complete_run("1-2")
    assert world.label_studio.backend_rows[1][0].title == "support-2"
    world.command(Action.ROLLBACK)
    world.settle()
    assert world.label_studio.backend_rows[1][0].title == "support-1"
    assert [row["model_version"] for row in world.label_studio.predictions if row["task"] == task] == [
        "support-1",
        "support-2",
    ]


def test_new_tasks_are_predicted_after_the_burst() -> None:
    world = ControllerWorld.serving()
    tasks = [world.label_studio.add_task() for _ in range(3)]
    for _ in tasks:
        world.event("TASKS_CREATED")
    world.tick()
    assert not world.controller.refresher.run_due_job(world.now)
    world.settle()
    assert [row["task"] for row in world.label_studio.predictions] == tasks
    assert world.label_studio.reads.count("count") == 2


def test_restart_repeats_only_an_unfinished_refresh() -> None:
    world = ControllerWorld()
    world.connect()
    world.label_studio.label_many(6)
    world.settle()
    task = world.label_studio.add_task()
    world.train("1-1")
    world.tick(0.5)
    assert world.label_studio.predictions == []
    world.restart()
    world.settle()
    assert [row["task"] for row in world.label_studio.predictions] == [task]
    world.label_studio.reads.clear()
    world.restart()
    world.settle(8)
    assert world.label_studio.reads.count("count") == 1  # for tasks that came while nobody looked
    assert [row["task"] for row in world.label_studio.predictions] == [task]


def test_another_backend_url_gets_the_title() -> None:
    world = ControllerWorld.serving()
    world.label_studio.backend_rows[1] = [
        Backend(7, URL, "support-1"),
        Backend(8, "http://other:9090", "new"),
    ]
    world.events.remember_setup(1, {}, "http://other:9090/")
    world.settle()
    assert [backend.title for backend in world.label_studio.backend_rows[1]] == ["support-1", "support-1"]


def _store_predictions(world: ControllerWorld, version: str, folder: Path) -> None:
    """Add to a published version what its run predicts for all unlabelled tasks: other."""
    project, _ = world.label_studio.project(1)
    rows = [row for row in world.label_studio.tasks[1].values() if not row["annotations"]]
    keys = key_array(text_key(row["data"]["text"]) for row in rows)
    tasks = np.array([row["id"] for row in rows], np.int64)
    PoolPredictions.of(tasks, keys, np.tile(np.array([0.1, 0.2, 0.7], np.float32), (len(rows), 1))).write(
        folder
    )
    prefix = f"projects/{project.key}/versions/{version}/"
    manifest = documents.load(Manifest, world.store.read(f"{prefix}manifest.json"), "manifest.json")
    manifest.files[PREDICTIONS] = entry_of(folder / PREDICTIONS)
    world.store.upload(folder / PREDICTIONS, prefix + PREDICTIONS)
    world.store.write(f"{prefix}manifest.json", documents.dump(manifest))


@pytest.mark.parametrize("is_damaged", [False, True])
def test_predictions_of_the_run_are_pushed_after_the_promotion(
    is_damaged: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = ControllerWorld.serving()
    task = world.label_studio.add_task()
    world.label_studio.label_many(6)
    world.settle()
    world.inference.asked.clear()
    world.train("1-2")
    _store_predictions(world, "support-2", tmp_path)
    if is_damaged:
        (tmp_path / PREDICTIONS).write_bytes(b"damaged")
    monkeypatch.setattr(world.leader_store, "local", lambda key: tmp_path / key.rpartition("/")[2])
    world.end("1-2")
    world.settle()
    (row,) = [row for row in world.label_studio.predictions if row["model_version"] == "support-2"]
    expected = "card" if is_damaged else "other"
    assert (row["task"], row["result"][0]["value"]["choices"]) == (task, [expected])
    assert world.label_studio.backend_rows[1][0].title == "support-2"
    assert len(world.inference.asked) == is_damaged
    assert ("cannot be used" in world.view.problem) is is_damaged
