"""methods.teacher: what a mixture of names and texts teaches, and how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.engine.compute import softmax
from services.trainer.data.features import Floats
from services.trainer.methods.linear_probe import ProbeInputs, train_probe
from services.trainer.methods.names import name_features, name_weights
from services.trainer.methods.scaling import Scale
from services.trainer.methods.self_training import MAX_SHARE as MAX_POOL
from services.trainer.methods.self_training import soft_targets
from services.trainer.methods.teacher import MAX_SHARE, Teacher, teacher_of, unseen_share
from tests.support.points import Points, accuracy, points


def _inputs(found: Points, names: Floats | None = None) -> ProbeInputs:
    scale = Scale.of(found.X, found.pool)
    rows = name_features(found.names if names is None else names)
    return ProbeInputs(scale.apply(found.X), found.targets, rows, scale.apply(found.pool))


def _of_few_labels(found: Points, labels: int) -> Points:
    """Leave labelled texts of the first labels alone."""
    kept = found.targets < labels
    return replace(found, X=found.X[kept], targets=found.targets[kept])


def _teacher(inputs: ProbeInputs) -> Teacher:
    weights = name_weights(inputs.X, inputs.targets, inputs.N)
    return teacher_of(inputs.X, inputs.targets, inputs.N, weights, inputs.pool)


def _right(inputs: ProbeInputs, found: Points) -> float:
    return float((_teacher(inputs).logits.argmax(axis=1) == found.pool_targets).mean())


def test_labels_that_no_text_has_are_seen_to_be_missing() -> None:
    seen_once, seen_often = np.array([1, 1, 1, 0, 0, 0]), np.array([9, 9, 9, 0, 0, 0])
    assert unseen_share(seen_once) == 1
    assert unseen_share(seen_often) < 0.05


@settings(max_examples=30)
@given(st.integers(0, 50), st.integers(2, 6), st.integers(2, 40), st.booleans())
def test_shares_are_bounded_and_finite(seed: int, labels: int, n: int, lying: bool) -> None:
    found = _of_few_labels(points(n, 60, 8, labels, seed), labels - 1)
    names = np.roll(found.names, 1, axis=0) if lying else found.names
    teacher = _teacher(_inputs(found, names))
    assert teacher.logits.shape == (60, labels)
    assert ((teacher.shares >= 0) & (teacher.shares <= MAX_SHARE)).all()
    assert 0 <= teacher.texts <= labels - len(np.unique(found.targets))
    q, weights = soft_targets(teacher.logits, 2.0, n, teacher)
    assert np.isfinite(q).all()
    assert np.isfinite(weights).all()
    assert weights.sum() <= MAX_POOL * (n + teacher.texts) * 1.001


@settings(max_examples=20)
@given(st.integers(0, 50), st.floats(1, 4))
def test_a_share_of_0_changes_nothing(seed: int, sharpening: float) -> None:
    logits, others = np.random.default_rng(seed).normal(size=(2, 20, 3)).astype(np.float32)
    q, _ = soft_targets(logits, sharpening, 5, Teacher(others, np.zeros(20, np.float32), 0.0))
    assert np.array_equal(q, softmax(logits * np.float32(sharpening)))


def test_the_share_falls_as_texts_are_labelled() -> None:
    shares = [_teacher(_inputs(points(n, 200))).shares.mean() for n in (6, 24, 96, 600)]
    assert shares == sorted(shares, reverse=True)
    assert shares[0] > 0.9 * MAX_SHARE
    assert shares[-1] < 0.01


def test_it_learns_from_labelled_texts_where_names_say_nothing() -> None:
    few, many = points(6, 300), points(60, 300)
    silent = np.zeros_like(few.names)
    first, later = _inputs(few, silent), _inputs(many, silent)
    assert not name_weights(first.X, first.targets, first.N).any()
    assert _right(later, many) > _right(first, few) > 1 / 6


def test_a_label_without_example_or_name_is_not_answered() -> None:
    found = _of_few_labels(points(24, 200), 4)
    teacher = _teacher(_inputs(found, np.zeros_like(found.names)))
    assert softmax(teacher.logits)[:, 4:].max() < 1e-3
    assert teacher.texts == 0


def test_labels_of_the_config_that_nobody_gives_draw_few_texts() -> None:
    found = points(240, 600)
    config = np.concatenate([found.names, found.names + np.float32(0.1)])
    p = softmax(_teacher(_inputs(found, config)).logits, 2.0)
    assert p[:, 6:].sum(axis=1).mean() < 0.05


def test_it_teaches_a_head_of_few_texts() -> None:
    alone, taught = [], []
    for seed in range(8):
        found = _of_few_labels(points(12, 500, seed=seed), 3)
        inputs = _inputs(found)
        alone.append(
            accuracy(train_probe(replace(inputs, pool=inputs.pool[:0])).head, inputs.pool, found.pool_targets)
        )
        taught.append(accuracy(train_probe(inputs).head, inputs.pool, found.pool_targets))
    assert np.mean(taught) > np.mean(alone)


def test_a_probe_of_lying_names_answers_as_one_without_names() -> None:
    found = _of_few_labels(points(36), 5)
    lying = _inputs(found, np.roll(found.names, 1, axis=0))
    heads = [train_probe(one).head for one in (lying, replace(lying, N=np.zeros_like(lying.N)))]
    answers = [(lying.pool @ head.weight.T + head.bias).argmax(axis=1) for head in heads]
    assert (answers[0] == answers[1]).mean() > 0.95
