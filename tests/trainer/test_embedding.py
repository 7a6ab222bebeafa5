"""A run of kind `embed`: features of unlabelled texts, once each, the newest first, and nothing lost when it is cut off."""

from __future__ import annotations

import numpy as np
import pytest

from services.core.domain import PoolState, RunState
from services.core.encoders import Encoders
from services.core.errors import BadData, LabelStudioUnreachable, Preempted
from services.core.features import Features, FeatureStore, key_array
from services.core.labels import text_key
from services.core.pool import PoolStore
from services.trainer.data import pool_features
from services.trainer.process.lifecycle import Stop
from tests.support.trainer import FakeStop, TrainerWorld
from tests.support.trainer_process import run_command


def _embed(world: TrainerWorld, seconds: float = 60.0) -> PoolState:
    run = world.request_embed(seconds)
    world.train(run)
    pool = world.status(run).pool
    assert pool is not None
    return pool


def _features(world: TrainerWorld) -> Features:
    (digest,) = Encoders(world.store).digests()
    width = Encoders(world.store).manifest(digest).width
    return FeatureStore(world.store, world.key, digest, width).load()


def _rows(world: TrainerWorld, tasks: list[int]) -> list[int]:
    rows = world.labelstudio.tasks[1]
    keys = key_array(text_key(rows[task]["data"]["text"]) for task in tasks)
    return [int(row) for row in _features(world).rows(keys)]


def test_every_unlabelled_text_gets_features_once(world: TrainerWorld) -> None:
    tasks = world.add_texts(30)
    world.label(4)
    assert _embed(world) == PoolState(30, 0, 34, 30, Encoders(world.store).digests()[0])
    assert min(_rows(world, tasks)) >= 0
    assert len(_features(world)) == 30
    assert world.status("1-embed-1").message == "30 of 30 unlabelled texts have features, 30 of them new."
    more = world.add_texts(5)
    assert _embed(world).computed == 5
    assert min(_rows(world, tasks + more)) >= 0
    assert _embed(world).computed == 0


def test_command_computes_features_and_publishes_nothing(world: TrainerWorld) -> None:
    world.add_texts(12)
    world.label(3)
    run = world.request_embed()
    done = run_command(world, run)
    assert done.returncode == 0, done.stderr
    status = world.status(run)
    assert (status.state, status.exit_code, status.published) == (RunState.DONE, 0, ())
    assert status.pool is not None
    assert (status.pool.tasks, status.pool.left, status.pool.computed) == (12, 0, 12)
    words = [row["data"]["text"] for row in world.labelstudio.tasks[1].values()]
    assert not any(text in done.stderr for text in words), "no text of a task is logged"


def test_features_are_those_that_a_training_run_computes(world: TrainerWorld) -> None:
    tasks = world.add_texts(3)
    _embed(world)
    (digest,) = Encoders(world.store).digests()
    from services.core.registry import Registry
    from services.engine.loading import Loader

    encoder = Loader(Registry(world.store), 1, 1).encoder(Encoders(world.store).manifest(digest))
    texts = [world.labelstudio.tasks[1][task]["data"]["text"] for task in tasks]
    expected = encoder.features_of(texts)
    found = _features(world).x[_rows(world, tasks)].astype(np.float32)
    assert np.abs(found - expected).max() < 2e-3 * np.abs(expected).max()
    encoder.close()


def test_time_that_is_over_leaves_the_rest_to_the_next_run(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_features, "_TEXTS", 4)
    tasks = world.add_texts(20)
    looks = iter([False] * 2)
    with monkeypatch.context() as patch:
        patch.setattr(pool_features.PoolFeatures, "is_over", property(lambda _: next(looks, True)))
        first = _embed(world)
    assert (first.computed, first.left) == (8, 12)
    assert [row >= 0 for row in _rows(world, tasks)] == [False] * 12 + [True] * 8  # the newest first
    assert first.counted == 0
    second = _embed(world)
    assert (second.computed, second.left, second.counted) == (12, 0, 20)


def test_interrupted_run_keeps_what_it_has_computed(
    world: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_features, "_TEXTS", 2)
    world.add_texts(40)
    world.stop = FakeStop(15)
    run = world.request_embed()
    with pytest.raises(Preempted):
        world.train(run)
    kept = len(_features(world))
    assert 0 < kept < 40
    world.stop = Stop()
    assert _embed(world).computed == 40 - kept


def test_label_studio_that_goes_away_loses_nothing(world: TrainerWorld) -> None:
    world.labelstudio.page_size = 10
    world.add_texts(30)
    run, pages = world.request_embed(), world.labelstudio.unlabelled_pages

    def break_off(*given: object) -> object:
        yield next(pages(*given))  # type: ignore[arg-type]
        raise LabelStudioUnreachable("away")

    world.labelstudio.unlabelled_pages = break_off  # type: ignore[method-assign,assignment]
    with pytest.raises(LabelStudioUnreachable):
        world.train(run)
    assert len(_features(world)) == 10
    world.labelstudio.unlabelled_pages = pages  # type: ignore[method-assign]
    assert _embed(world).computed == 20


def test_deleted_and_labelled_tasks_leave_the_pool(world: TrainerWorld) -> None:
    tasks = world.add_texts(10)
    _embed(world)
    world.labelstudio.delete_task(tasks[0])
    world.labelstudio.label(tasks[1], "order")
    found = _embed(world)
    assert (found.tasks, found.computed) == (8, 0)
    assert PoolStore(world.store, world.key).load().tasks.tolist() == tasks[2:]


def test_damaged_shard_is_computed_again(world: TrainerWorld) -> None:
    world.add_texts(10)
    _embed(world)
    (shard,) = [key for key in world.store.keys("projects/") if "/features/" in key]
    world.store.write(shard, b"broken")
    assert _embed(world).computed == 10


def test_lost_pool_is_read_again_and_computes_nothing(world: TrainerWorld) -> None:
    world.add_texts(10)
    _embed(world)
    world.store.delete(f"projects/{world.key}/pool.safetensors")
    assert _embed(world).computed == 0


def test_config_without_a_question_fails_for_good(world: TrainerWorld) -> None:
    world.labelstudio.labels[1] = ()
    run = world.request_embed()
    with pytest.raises(BadData):
        world.train(run)
