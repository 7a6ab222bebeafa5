"""The expected accuracy of versions is compared with later annotations, in a worker, and what was found outlives a restart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from services.adapter.state.estimates_file import MAX_SCORES, EstimateScores, EstimatesFile
from services.core.accuracy import score_message
from services.core.domain import EstimateErrors, EstimateScore, ExpectedAccuracy, Selection
from services.core.errors import StoreUnreachable
from services.core.features import key_array
from services.core.labels import text_key
from services.core.pool import PREDICTIONS, PoolPredictions
from tests.support.controller import ControllerWorld
from tests.support.labelstudio import LABELS
from tests.support.store import MemoryStore

POOL = 60
SCORE = EstimateScore("v-1", 1.0, 0.84, 0.05, 120, 100, 0.80, 0.03, Selection.RANDOM)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ControllerWorld:
    """A project that serves support-1, which expects to be right on 90 % and has answered 60 unlabelled tasks."""

    def local(store: MemoryStore, key: str) -> Path:
        path = tmp_path / key.replace("/", "-")
        path.write_bytes(store.read(key))
        return path

    monkeypatch.setattr(MemoryStore, "local", local)
    made = ControllerWorld.serving()
    tasks = [made.label_studio.add_task() for _ in range(POOL)]
    keys = key_array(text_key(f"text number {task}") for task in tasks)
    rows = np.tile(np.array([0.9, 0.06, 0.04], np.float32), (POOL, 1))
    folder = tmp_path / "version"
    folder.mkdir()
    PoolPredictions.of(np.array(tasks, np.int64), keys, rows).write(folder)
    manifest = made.registry.manifest(made.view.project.key, "support-1")
    made.registry.publish(folder, replace(manifest, expected=ExpectedAccuracy(0.9, 0.05, POOL)))
    made.restart()  # whose predecessor had read the manifest before
    made.settle()
    return made


@pytest.mark.parametrize("value", ["random", "by-a-later-release"])
def test_selections_of_a_later_release_survive(value: str) -> None:
    file = EstimatesFile(MemoryStore(), "1-1")
    file.write(EstimateScores((SCORE,)))
    key = "projects/1-1/estimates.json"
    data = file.store.read(key).replace(b'"random"', f'"{value}"'.encode())
    file.store.write(key, data)
    file.write(file.read().merge({"v-2": replace(SCORE, version="v-2")}, 7))
    (first, second) = file.read().scores
    assert (first.selection, second.selection) == (value, Selection.RANDOM)
    assert "120" in score_message(first)
    assert file.store.read(key).count(f'"{value}"'.encode()) == (2 if value == "random" else 1)


def test_broken_file_is_replaced_with_a_warning(capsys: pytest.CaptureFixture[str]) -> None:
    file = EstimatesFile(MemoryStore({"projects/1-1/estimates.json": b"{"}), "1-1")
    assert file.read() == EstimateScores()
    line = capsys.readouterr().out
    assert "estimates_unreadable" in line
    assert "projects/1-1/estimates.json" in line


def label_all(world: ControllerWorld, wrong: int) -> None:
    """Label what the version has answered, some of it otherwise."""
    unlabelled = [task for task, row in world.label_studio.tasks[1].items() if not row["annotations"]]
    for number, task in enumerate(unlabelled):
        world.label_studio.label(task, LABELS[1 if number < wrong else 0])


def errors_of(world: ControllerWorld) -> EstimateErrors | None:
    return world.view.figures.estimates


def stored(world: ControllerWorld) -> EstimateScores:
    return EstimatesFile(world.store, world.view.project.key).read()


def test_later_annotations_score_a_version(world: ControllerWorld) -> None:
    assert errors_of(world) is None
    label_all(world, wrong=12)
    world.settle(8)
    (score,) = stored(world).scores
    assert (score.version, score.annotations, score.right, score.expected) == ("support-1", 60, 48, 0.9)
    assert score.observed == pytest.approx(0.8)
    found = errors_of(world)
    assert found
    assert found.versions == 1
    assert found.error == pytest.approx(0.1)


def test_scores_outlive_their_versions_and_a_restart(world: ControllerWorld) -> None:
    label_all(world, wrong=12)
    world.settle(8)
    known = world.view.figures.estimates
    assert known
    world.registry.delete(world.view.project.key, "support-1")
    world.restart()
    world.settle()
    assert world.view.figures.estimates == known
    assert len(stored(world).scores) == 1


def test_scoring_waits_for_no_step(world: ControllerWorld) -> None:
    world.workers.held.add("score estimates")
    label_all(world, wrong=12)
    world.settle(8)
    assert world.view.labelled == 66, "steps go on meanwhile"
    assert stored(world).scores == ()
    world.workers.release()
    world.settle()
    assert world.view.figures.estimates


def test_nothing_is_read_while_no_label_changes(world: ControllerWorld) -> None:
    world.settle()
    before = world.workers.submitted.count(("score estimates", 1))
    world.settle(20)
    assert world.workers.submitted.count(("score estimates", 1)) == before


def test_store_that_fails_is_asked_again(world: ControllerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as failing:
        failing.setattr(EstimatesFile, "read", _unreachable)
        label_all(world, wrong=12)
        world.restart()
        world.settle(4)
        assert world.view.labelled == 66
        assert errors_of(world) is None
    world.settle(8)
    assert errors_of(world)


def test_version_without_answers_is_not_scored(world: ControllerWorld) -> None:
    key = f"projects/{world.view.project.key}/versions/support-1/{PREDICTIONS}"
    world.store.delete(key)
    label_all(world, wrong=12)
    world.settle(8)
    assert stored(world).scores == ()
    assert world.view.figures.estimates is None


def test_the_newest_scores_are_kept() -> None:
    scores = {
        f"v-{number}": replace(SCORE, version=f"v-{number}", created_at=float(number))
        for number in range(120)
    }
    found = EstimateScores().merge(scores, 3)
    assert (len(found.scores), found.scores[-1].version, found.term) == (MAX_SCORES, "v-119", 3)
    better = replace(SCORE, version="v-119", created_at=119.0, annotations=200)
    assert found.merge({"v-119": better}, 4).scores[-1] == better


def _unreachable(_: EstimatesFile) -> EstimateScores:
    raise StoreUnreachable("The store does not answer.")
