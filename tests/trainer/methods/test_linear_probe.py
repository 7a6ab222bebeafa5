"""methods.linear_probe: labels, names and unlabelled texts together, and the folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.core.errors import Preempted
from services.engine.compute import softmax
from services.trainer.methods.linear_probe import ProbeInputs, cross_fit, fit_head, train_probe
from services.trainer.methods.names import name_features
from services.trainer.methods.scaling import Scale
from services.trainer.process.lifecycle import Stop
from tests.support.points import Points, accuracy, points


def _inputs(found: Points, pool: int = 200) -> ProbeInputs:
    scale = Scale.of(found.X, found.pool[:pool])
    rows = name_features(found.names)
    return ProbeInputs(scale.apply(found.X), found.targets, rows, scale.apply(found.pool[:pool]))


def test_names_and_unlabelled_texts_help() -> None:
    scores = []
    for seed in range(5):
        found = points(6, 500, seed=seed)
        given_ = _inputs(found, 300)
        probe, new = train_probe(given_), Scale.of(found.X, found.pool[:300]).apply(found.pool[300:])
        names = train_probe(replace(given_, pool=given_.pool[:0])).head
        alone = fit_head(found.X, found.targets, 6)
        truth = found.pool_targets[300:]
        scores.append(
            (
                accuracy(alone, found.pool[300:], truth),
                accuracy(names, new, truth),
                accuracy(probe.head, new, truth),
            )
        )
    one, two, three = np.mean(scores, axis=0)
    assert three > two > one


def test_names_of_other_labels_are_left_out() -> None:
    found = points(60)
    lying = replace(_inputs(found, 0), N=name_features(np.roll(found.names, 1, axis=0)))
    without = replace(lying, N=np.zeros_like(found.names))
    assert np.array_equal(train_probe(lying).head.weight, train_probe(without).head.weight)


def test_a_label_is_known_by_its_example_or_its_name() -> None:
    found = points(60)
    some = _inputs(found).without(found.targets == 3)
    assert train_probe(some).known.all()
    silent = replace(some, N=np.zeros_like(some.N))
    probe = train_probe(silent)
    assert probe.known.tolist() == [True, True, True, False, True, True]
    p = softmax(some.X @ probe.head.weight.T + probe.head.bias)
    assert p[:, 3].max() < 1e-3


def test_a_small_pool_is_left_alone() -> None:
    given_ = _inputs(points(), 29)
    given_ = replace(given_, N=np.zeros_like(given_.N))  # names are weighed by the pool as well
    without = replace(given_, pool=given_.pool[:0])
    assert np.array_equal(train_probe(given_).head.weight, train_probe(without).head.weight)


def test_folds_know_nothing_of_their_own_labels() -> None:
    found = points(60)
    given_, folds = _inputs(found), np.arange(60) % 10
    wrong = given_.targets.copy()
    wrong[folds == 4] = (wrong[folds == 4] + 1) % 6
    logits, learnable, evaluated = cross_fit(given_, folds)
    others, _, _ = cross_fit(replace(given_, targets=wrong), folds, threads=2)
    assert evaluated.all()
    assert learnable.all()
    assert np.array_equal(logits[folds == 4], others[folds == 4])
    assert not np.array_equal(logits[folds == 3], others[folds == 3])


def test_a_single_fold_evaluates_nothing() -> None:
    given_ = _inputs(points())
    _, _, evaluated = cross_fit(given_, np.zeros(24, np.int64))
    assert not evaluated.any()


@settings(max_examples=20)
@given(st.integers(0, 30), st.integers(2, 6), st.integers(1, 12))
def test_a_probe_is_the_same_each_time(seed: int, labels: int, n: int) -> None:
    found = points(n, 60, 8, labels, seed)
    given_ = _inputs(found, 60)
    one, two = train_probe(given_).head, train_probe(given_).head
    assert np.isfinite(one.weight).all()
    assert np.array_equal(one.weight, two.weight)
    assert np.array_equal(one.bias, two.bias)


def test_probe_is_preempted_between_steps() -> None:
    with pytest.raises(Preempted):
        train_probe(_inputs(points()), Stop(requested=True).check)
