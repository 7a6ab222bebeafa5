"""A version from label names, made by a run of kind `embed`: what it answers, what it says of itself, and how a trained one replaces it."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.domain import FROM_LABEL_NAMES, Manifest, Method, NamesResult, Published
from services.core.errors import Preempted, StoreUnreachable
from services.core.pool import pool_predictions
from services.engine.head import read_head
from services.engine.loading import Loader
from services.trainer import embedding
from services.trainer.process.lifecycle import Stop
from services.trainer.publishing import names_version
from tests.support.trainer import WORDS, FakeStop, TrainerWorld


def _make(world: TrainerWorld, **options: object) -> Manifest:
    run = world.request_embed(label_names="wanted", **options)  # type: ignore[arg-type]
    world.train(run)
    names = world.status(run).names
    assert names is not None
    return world.manifest(names.version)


def _truth(world: TrainerWorld, task: int) -> str:
    words = world.labelstudio.tasks[1][task]["data"]["text"].split()
    return max(WORDS.values(), key=lambda name: sum(word in name.split() for word in words))


def test_version_answers_every_text(world: TrainerWorld) -> None:
    world.labelstudio.labels[1] = names = tuple(WORDS.values())
    tasks = world.add_texts(30)
    found = _make(world)
    assert (found.method, found.labels, found.lineage.pool_texts) == (Method.ZERO_SHOT, names, 30)
    predictions = pool_predictions(world.registry, found)
    assert predictions is not None
    assert sorted(predictions.tasks) == tasks
    answers = {task: names[label] for task, label in zip(predictions.tasks, predictions.labels, strict=True)}
    assert sum(answers[task] == _truth(world, task) for task in tasks) >= 20
    status = world.status("1-embed-1")
    assert status.published == (
        Published(found.version, promote=True, sentence=" ".join(found.gate.reasons)),
    )
    assert found.gate.reasons[0] == f"Made {FROM_LABEL_NAMES}."
    assert status.names == NamesResult(30, found.version)
    assert status.pool is not None
    assert (status.pool.computed, status.pool.left) == (30, 0)


def test_version_says_that_nothing_was_evaluated(world: TrainerWorld) -> None:
    world.add_texts(10)
    found = _make(world)
    assert found.version.endswith("-label-names-only-1")
    assert found.estimate.judged == 0
    assert found.expected is not None
    assert (found.expected.accuracy, found.expected.reason) == (None, FROM_LABEL_NAMES)
    assert (found.gate.promote, found.gate.kind, found.gate.compared_with) == (True, "label-names", None)
    assert (found.lineage.texts, found.lineage.annotation_ids) == (0, ())
    assert world.registry.out_of_sample(world.key, found.version).answers == {}
    assert world.registry.report(world.key, found.version).per_label == ()


def test_texts_may_get_several_labels_or_none(world: TrainerWorld) -> None:
    world.labelstudio.attributes = 'choice="multiple"'
    world.labelstudio.labels[1] = tuple(WORDS.values())
    world.add_texts(12)
    for words in (" ".join(WORDS.values()), "the weather is nice today"):
        world.labelstudio.tasks[1][world.labelstudio.add_task()]["data"] = {"text": words}
    found = _make(world)
    assert (found.multi_label, found.is_evaluated) == (True, False)
    stored = pool_predictions(world.registry, found)
    assert stored is not None
    assert stored.chosen is not None
    head = read_head(world.registry.file(world.key, found.version, "head.safetensors"))
    assert head.thresholds is not None
    answers = world.registry.out_of_sample(world.key, found.version)
    assert answers.thresholds == pytest.approx(tuple(head.thresholds.tolist()))
    model = Loader(world.registry, 1, 1).model(found)
    texts = [world.labelstudio.tasks[1][task]["data"]["text"] for task in stored.tasks]
    scores = model.scores_of(texts)
    model.close()
    chosen = [tuple(found.labels[number] for number in stored.chosen_at(row)) for row in range(len(texts))]
    assert [scores.chosen(row)[0] for row in range(len(texts))] == chosen
    assert () in chosen
    assert any(chosen)


def test_predictors_give_the_stored_answers(world: TrainerWorld) -> None:
    tasks = world.add_texts(8)
    found = _make(world)
    stored = pool_predictions(world.registry, found)
    assert stored is not None
    model = Loader(world.registry, 1, 1).model(found)
    texts = [world.labelstudio.tasks[1][task]["data"]["text"] for task in stored.tasks]
    scores = model.scores_of(texts)
    model.close()
    assert np.abs(scores.probabilities.max(axis=1) - stored.p1).max() < 0.02
    assert len(tasks) == len(texts)


def test_enough_texts_are_not_waited_for(world: TrainerWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """The version is there while the run computes the features of the others."""
    monkeypatch.setattr(embedding, "ENOUGH_TEXTS", 10)
    world.labelstudio.page_size = 10
    world.add_texts(30)
    found = _make(world)
    predictions = pool_predictions(world.registry, found)
    assert predictions is not None
    assert len(predictions) == 10
    pool = world.status("1-embed-1").pool
    assert pool is not None
    assert pool.left == 0


def test_method_without_features_computes_no_more(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding, "ENOUGH_TEXTS", 10)
    world.labelstudio.page_size = 10
    world.add_texts(30)
    _make(world, method=Method.FINETUNE)
    pool = world.status("1-embed-1").pool
    assert pool is not None
    assert pool.computed == 10


def test_run_that_is_not_asked_publishes_nothing(world: TrainerWorld) -> None:
    world.add_texts(5)
    run = world.request_embed()
    world.train(run)
    assert (world.status(run).names, world.status(run).published) == (None, ())
    assert world.registry.version_names(world.key) == []


@pytest.mark.parametrize("labels", [("1", "2"), ("a", "b", "order")])
def test_names_that_say_nothing_make_no_version(world: TrainerWorld, labels: tuple[str, ...]) -> None:
    world.labelstudio.labels[1] = labels
    world.add_texts(5)
    run = world.request_embed(label_names="wanted")
    world.train(run)
    names = world.status(run).names
    assert names is not None
    assert names.version == ""
    assert repr(labels[0]) in names.reason


def test_names_that_the_base_model_cannot_read_make_no_version(world: TrainerWorld) -> None:
    world.labelstudio.labels[1] = ("好评", "差评", "其他")  # unknown to a vocabulary of English words
    world.add_texts(5)
    run = world.request_embed(label_names="wanted")
    world.train(run)
    names = world.status(run).names
    assert names is not None
    assert (names.version, names.texts) == ("", 5)
    assert "base model cannot tell" in names.reason


def test_names_that_have_nothing_to_do_with_the_texts_are_said_to() -> None:
    """Names are a few directions: texts along these are about them, texts in all directions are not."""
    random = np.random.default_rng(0)
    noise = random.normal(size=(400, 64)).astype(np.float32)
    names = np.eye(3, 64, dtype=np.float32)
    assert names_version.is_noise(names, noise)
    assert not names_version.is_noise(names, noise + 8 * names[random.integers(0, 3, 400)])


def test_silent_labels_are_never_suggested(world: TrainerWorld) -> None:
    world.labelstudio.labels[1] = ("order", "money", "7")
    world.add_texts(5)
    assert _make(world).labels == ("order", "money")


def test_tasks_without_a_text_make_no_version(world: TrainerWorld) -> None:
    (task,) = world.add_texts(1)
    world.labelstudio.tasks[1][task]["data"] = {"text": " "}
    run = world.request_embed(label_names="wanted")
    world.train(run)
    names = world.status(run).names
    assert names is not None
    assert (names.texts, names.version) == (0, "")
    assert names.reason


def test_same_texts_and_names_make_the_same_version(world: TrainerWorld) -> None:
    world.add_texts(12)
    one, two = (pool_predictions(world.registry, _make(world)) for _ in range(2))
    assert one is not None
    assert two is not None
    np.testing.assert_array_equal(one.tasks, two.tasks)
    np.testing.assert_array_equal(one.p1, two.p1)


def test_attempt_after_a_crash_keeps_the_version(world: TrainerWorld) -> None:
    world.add_texts(6)
    run = world.request_embed(label_names="wanted")
    world.train(run)
    before = world.status(run)
    assert before.names is not None
    made = world.manifest(before.names.version)
    world.train(run)  # the process had died before its last status
    after = world.status(run)
    assert (after.names, after.published) == (before.names, before.published)
    assert world.manifest(made.version) == made


def test_interrupted_run_makes_it_the_next_time(world: TrainerWorld) -> None:
    world.add_texts(20)
    world.stop = FakeStop(2)
    run = world.request_embed(label_names="wanted")
    with pytest.raises(Preempted):
        world.train(run)
    assert world.status(run).names is None
    world.stop = Stop()
    world.train(run)
    assert world.status(run).names is not None


def test_store_that_fails_leaves_no_part_of_a_version(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.add_texts(6)
    run = world.request_embed(label_names="wanted")
    write = world.store.write

    def refuse(key: str, data: bytes) -> None:
        if key.endswith("/manifest.json") and "/versions/" in key:
            world.stop.requested = True  # gives up at once
            raise StoreUnreachable("away")
        write(key, data)

    monkeypatch.setattr(world.store, "write", refuse)
    with pytest.raises((StoreUnreachable, Preempted)):
        world.train(run)
    assert world.status(run).names is None
    assert world.registry.manifests(world.key) == []


def test_trained_version_is_compared_with_it(world: TrainerWorld) -> None:
    """Every labelled text is new to a version that was trained on none."""
    world.label(24)
    world.add_texts(6)
    found = _make(world)
    world.serve(found.version)
    run = world.request()
    world.train(run)
    trained = world.manifest(world.status(run).published[0].version)
    assert trained.gate.compared_with == found.version
    assert trained.gate.pairs == trained.estimate.judged
    assert trained.gate.kind in {"better", "too-few"}
    assert trained.gate.promote == (trained.gate.kind == "better")


def test_trained_version_of_several_labels_is_compared_with_it(world: TrainerWorld) -> None:
    world.labelstudio.attributes = 'choice="multiple"'
    world.add_texts(12)
    found = _make(world)
    world.serve(found.version)
    for place, task in enumerate(world.label(48)):
        label = tuple(WORDS)[(place + 1) % len(WORDS)]  # not the one that it is called
        world.labelstudio.label(task, label)
    run = world.request()
    world.train(run)
    (published,) = world.status(run).published
    gate = world.manifest(published.version).gate
    assert (gate.compared_with, gate.pairs, gate.kind) == (found.version, 48, "better")
    assert published.promote


def test_lying_names_lose_against_labels(world: TrainerWorld) -> None:
    world.add_texts(12)
    found = _make(world)
    world.serve(found.version)
    for place, task in enumerate(world.label(45)):
        label = tuple(WORDS)[(place + 1) % len(WORDS)]  # not the one that it is called
        world.labelstudio.label(task, label)
    run = world.request()
    world.train(run)
    (published,) = world.status(run).published
    assert published.promote
    assert world.manifest(published.version).gate.kind == "better"
