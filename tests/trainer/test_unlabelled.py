"""Whole runs: what they learn from unlabelled texts and from the names of labels."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.domain import Method
from services.trainer.methods import TrainedModel, TrainingContext
from services.trainer.methods.by_name import METHODS
from tests.support.trainer import WORDS, TrainerWorld


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[TrainingContext, TrainedModel]]:
    """What each run's probe was given, and what it returned."""
    found: list[tuple[TrainingContext, TrainedModel]] = []
    probe = METHODS[Method.LINEAR_PROBE]

    def spy(context: TrainingContext) -> TrainedModel:
        found.append((context, probe(context)))
        return found[-1][1]

    monkeypatch.setitem(METHODS, Method.LINEAR_PROBE, spy)
    return found


def test_a_run_trains_on_known_unlabelled_texts_and_holds_some_back(
    world: TrainerWorld, trained: list[tuple[TrainingContext, TrainedModel]]
) -> None:
    world.add_texts(50)
    world.label(30)
    world.train(world.request_embed())
    world.train(world.request())
    ((context, model),) = trained
    assert context.pool_features.shape == (50, 32)
    assert context.features.names.shape == (3, 32)
    assert model.unseen is not None
    assert model.unseen.shape == (7, 3)
    assert model.head is not None
    held = context.pool_features[43:]
    assert np.array_equal(model.unseen, held @ model.head.weight.T + model.head.bias)


def test_equal_runs_make_equal_versions(
    world: TrainerWorld, trained: list[tuple[TrainingContext, TrainedModel]]
) -> None:
    world.add_texts(50)
    world.label(30)
    world.train(world.request_embed())
    for _ in range(2):
        world.train(world.request())
    one, two = (world.registry.file(world.key, f"support-{n}", "oos.json").read_bytes() for n in (1, 2))
    assert one == two
    heads = [model.head for _, model in trained]
    assert heads[0] is not None
    assert heads[1] is not None
    assert np.array_equal(heads[0].weight, heads[1].weight)


def test_learning_curve_goes_on_with_the_version_that_is_served(world: TrainerWorld) -> None:
    world.add_texts(150)
    for number in (1, 2):
        world.label(30)
        world.train(world.request_embed())
        world.train(world.request())
        world.serve(f"support-{number}")
    manifest = world.manifest("support-2")
    assert [point.texts for point in manifest.curve] == [30, 60]
    assert manifest.expected is not None
    assert manifest.curve[-1].accuracy == manifest.expected.accuracy
    assert world.manifest("support-1").curve == manifest.curve[:1]


def test_a_text_that_is_labelled_elsewhere_is_not_unlabelled(
    world: TrainerWorld, trained: list[tuple[TrainingContext, TrainedModel]]
) -> None:
    tasks, labelled = world.add_texts(20), world.label(30)
    world.labelstudio.tasks[1][tasks[0]]["data"] = world.labelstudio.tasks[1][labelled[0]]["data"]
    world.train(world.request_embed())
    world.train(world.request())
    assert len(trained[0][0].pool_features) == 19


def test_a_label_without_an_example_is_answered(world: TrainerWorld) -> None:
    for number in world.label(60)[::3]:
        world.labelstudio.tasks[1][number]["annotations"] = []
    world.train(world.request())
    manifest = world.manifest("support-1")
    assert manifest.labels == tuple(WORDS)
    assert manifest.lineage.texts == 40


def test_runs_before_anything_is_known_have_no_unlabelled_texts(
    world: TrainerWorld, trained: list[tuple[TrainingContext, TrainedModel]]
) -> None:
    world.add_texts(50)
    world.label(30)
    world.train(world.request())
    assert len(trained[0][0].pool_features) == 0
    assert trained[0][1].unseen is None
