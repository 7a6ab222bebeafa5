"""methods.teacher: when names teach beside labels, and how much."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.data.features import Floats
from services.trainer.methods.fitting import WeightedRows, fit
from services.trainer.methods.linear_probe import ProbeInputs, train_probe
from services.trainer.methods.names import name_features, name_weights
from services.trainer.methods.scaling import Scale
from services.trainer.methods.self_training import MAX_SHARE as MAX_POOL
from services.trainer.methods.self_training import self_train, soft_targets
from services.trainer.methods.teacher import MAX_SHARE, Teacher, teacher_of, trust_in, unseen_share
from tests.support.points import Points, accuracy, points


def _inputs(found: Points, names: Floats | None = None) -> ProbeInputs:
    scale = Scale.of(found.X, found.pool)
    rows = name_features(found.names if names is None else names)
    return ProbeInputs(scale.apply(found.X), found.targets, rows, scale.apply(found.pool))


def _of_few_labels(found: Points, labels: int) -> Points:
    """Leave labelled texts of the first labels alone."""
    kept = found.targets < labels
    return replace(found, X=found.X[kept], targets=found.targets[kept])


def _teacher(inputs: ProbeInputs) -> Teacher | None:
    weights = name_weights(inputs.X, inputs.targets, inputs.N)
    return teacher_of(inputs.X, inputs.targets, inputs.N, weights, inputs.pool)


@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 150))
def test_trust_is_a_share_and_grows_with_right_answers(right: int, wrong: int, labels: int) -> None:
    found = trust_in(right, right + wrong, labels)
    assert 0 <= found <= 1
    if wrong:
        assert found <= trust_in(right + 1, right + wrong, labels)
    if labels * right <= right + wrong:  # no better than chance
        assert found == 0


def test_few_labels_need_more_evidence() -> None:
    assert trust_in(3, 5, 2) == 0
    assert trust_in(5, 5, 77) == 1
    assert trust_in(4, 10, 2) == 0
    assert trust_in(4, 10, 77) > 0.5


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
    if teacher is not None:
        assert teacher.logits.shape == (60, labels)
        assert ((teacher.shares >= 0) & (teacher.shares <= MAX_SHARE * (1 + 1e-5))).all()
        assert 0 < teacher.texts <= labels - len(np.unique(found.targets))
        q, weights = soft_targets(teacher.logits, 2.0, n, teacher)
        assert np.isfinite(q).all()
        assert np.isfinite(weights).all()
        assert weights.sum() <= MAX_POOL * n * 1.001


@settings(max_examples=20)
@given(st.integers(0, 50), st.floats(1, 4))
def test_a_share_of_0_changes_nothing(seed: int, sharpening: float) -> None:
    random = np.random.default_rng(seed)
    logits, others = random.normal(size=(2, 20, 3)).astype(np.float32)
    silent = Teacher(others, np.zeros(20, np.float32), 0.0)
    for one, other in zip(
        soft_targets(logits, sharpening, 5), soft_targets(logits, sharpening, 5, silent), strict=True
    ):
        assert np.array_equal(one, other)


def test_names_that_are_not_believed_teach_nothing() -> None:
    found = _of_few_labels(points(24), 4)
    lying = _inputs(found, np.roll(found.names, 1, axis=0))
    assert _teacher(lying) is None
    assert _teacher(replace(lying, N=np.zeros_like(lying.N))) is None
    assert _teacher(_inputs(found)) is not None


def test_a_label_with_an_example_is_not_taught() -> None:
    found = points(60)
    inputs = _inputs(found)
    assert _teacher(inputs) is None
    some = inputs.without(found.targets == 3)
    teacher = _teacher(some)
    assert teacher is not None
    answers = teacher.logits.argmax(axis=1)
    assert teacher.shares[answers == 3].mean() > 10 * teacher.shares[answers != 3].mean()


def test_names_teach_a_head_of_few_texts() -> None:
    before, after = [], []
    for seed in range(8):
        found = _of_few_labels(points(12, 500, seed=seed), 3)
        inputs = _inputs(found)
        named = WeightedRows.of(inputs.X, inputs.targets, 6)
        rows = named.with_labelled(inputs.N, np.arange(6), np.ones(6, np.float32))
        head, n = fit(rows), len(inputs.X)
        without = self_train(head, rows, inputs.pool, n)
        taught = self_train(head, rows, inputs.pool, n, teacher=_teacher(inputs))
        before.append(accuracy(without, inputs.pool, found.pool_targets))
        after.append(accuracy(taught, inputs.pool, found.pool_targets))
    assert np.mean(after) > np.mean(before)


def test_a_probe_of_lying_names_is_as_without_a_teacher() -> None:
    found = _of_few_labels(points(36), 5)
    lying = _inputs(found, np.roll(found.names, 1, axis=0))
    nameless = replace(lying, N=np.zeros_like(lying.N))
    assert np.array_equal(train_probe(lying).head.weight, train_probe(nameless).head.weight)
