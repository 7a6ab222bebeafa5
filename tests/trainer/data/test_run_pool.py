"""data.run_pool: a new version answers every unlabelled text whose features are known, and a run never fails by that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from services.core.accuracy import TOO_FEW
from services.core.domain import Manifest, Method
from services.core.errors import LabelStudioUnreachable
from services.core.pool import PoolPredictions, PoolStore, pool_predictions
from services.engine.loading import Loader
from services.trainer.data.pool_features import PoolFeatures
from tests.support.trainer import TrainerWorld


def _train(
    world: TrainerWorld, method: Method = Method.LINEAR_PROBE
) -> tuple[str, Manifest, PoolPredictions | None]:
    run = world.request(method)
    world.train(run)
    manifest = world.manifest(world.status(run).published[0].version)
    return run, manifest, pool_predictions(world.registry, manifest)


def _text(world: TrainerWorld, task: int) -> str:
    return str(world.labelstudio.tasks[1][task]["data"]["text"])


def test_predictions_are_those_that_the_version_gives_when_served(world: TrainerWorld) -> None:
    tasks = world.add_texts(20)
    world.label(30)
    world.train(world.request_embed())
    world.labelstudio.reads.clear()
    run, manifest, found = _train(world)
    assert found is not None
    assert sorted(found.tasks.tolist()) == tasks
    model = Loader(world.registry, 1, 1).model(manifest)
    scores = model.scores_of([_text(world, task) for task in found.tasks.tolist()])
    expected = [scores.best(row) for row in range(len(found))]
    assert [manifest.labels[label] for label in found.labels] == [label for label, _, _ in expected]
    assert np.allclose(found.p1, [p1 for _, p1, _ in expected], atol=5e-3)
    assert np.allclose(found.scores, sorted(score for _, _, score in expected), atol=5e-3)
    assert (np.diff(found.scores) >= 0).all()
    model.close()
    pool = world.status(run).pool
    assert pool is not None
    assert (pool.tasks, pool.left, pool.computed) == (20, 0, 0)
    assert {"unlabelled texts", "all unlabelled ids"}.isdisjoint(world.labelstudio.reads)


def test_a_fine_tuned_version_answers_by_its_own_encoder(world: TrainerWorld) -> None:
    tasks = world.add_texts(20)
    world.label(30)
    run, manifest, found = _train(world, Method.LP_FT)
    assert found is not None
    assert sorted(found.tasks.tolist()) == tasks
    scores = (
        Loader(world.registry, 1, 1)
        .model(manifest)
        .scores_of([_text(world, task) for task in found.tasks.tolist()])
    )
    expected = [scores.best(row)[1] for row in range(len(found))]
    assert np.allclose(found.p1, expected, atol=5e-3)
    assert manifest.expected is not None
    assert manifest.expected.reason == TOO_FEW, "of 20 texts, three may be asked"
    assert world.status(run).pool is None, "the base model's features are what later runs need"


@pytest.mark.parametrize("method", [Method.FINETUNE, Method.LP_FT])
def test_fine_tuned_versions_have_an_expected_accuracy(world: TrainerWorld, method: Method) -> None:
    world.add_texts(160)
    world.label(60)
    world.train(world.request_embed())
    _, manifest, _ = _train(world, method)
    assert manifest.expected is not None
    assert manifest.expected.texts == 24, "15 %: a probe may have been trained on the others"


def test_texts_without_features_are_computed_within_the_time(world: TrainerWorld) -> None:
    tasks = world.add_texts(20)
    world.label(30)
    run, _, found = _train(world)
    assert found is not None
    assert sorted(found.tasks.tolist()) == tasks
    pool = world.status(run).pool
    assert pool is not None
    assert (pool.computed, pool.left, pool.counted) == (20, 0, 50)
    assert len(PoolStore(world.store, world.key).load()) == 20


def test_without_time_known_texts_are_predicted(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = world.add_texts(10)
    world.label(30)
    world.train(world.request_embed())
    world.add_texts(5)
    monkeypatch.setattr(PoolFeatures, "is_over", property(lambda _: True))
    run, _, found = _train(world)
    assert found is not None
    assert sorted(found.tasks.tolist()) == tasks
    pool = world.status(run).pool
    assert pool is not None
    assert (pool.tasks, pool.left, pool.computed) == (15, 5, 0)


def test_labelled_and_edited_tasks_are_told_apart(world: TrainerWorld) -> None:
    tasks = world.add_texts(10)
    world.label(30)
    world.train(world.request_embed())
    world.labelstudio.label(tasks[0], "order")
    edited = world.labelstudio.tasks[1][tasks[1]]
    edited.update(data={"text": "quite another text"}, updated_at=world.labelstudio._stamp())
    _, _, found = _train(world)
    assert found is not None
    assert sorted(found.tasks.tolist()) == tasks[1:]


def test_label_studio_that_fails_costs_predictions_alone(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_texts(10)
    world.label(30)

    def fail(*_: object) -> Iterator[list[dict[str, Any]]]:
        raise LabelStudioUnreachable("away")

    monkeypatch.setattr(world.labelstudio, "unlabelled_pages", fail)
    _, manifest, found = _train(world)
    assert found is None
    assert manifest.files["head.safetensors"].size > 0


def test_project_without_unlabelled_tasks_has_no_predictions(world: TrainerWorld) -> None:
    world.label(30)
    run, _, found = _train(world)
    assert found is None
    pool = world.status(run).pool
    assert pool is not None
    assert (pool.tasks, pool.left, pool.counted) == (0, 0, 30)
