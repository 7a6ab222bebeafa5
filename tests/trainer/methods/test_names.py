"""methods.names: how far names are believed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.data.features import Floats, Rows
from services.trainer.methods.names import MIN_TRUST, name_features, name_weights, trust
from services.trainer.methods.scaling import Scale
from tests.support.points import Points, points


def _trust(found: Points, names: Floats) -> float:
    x = Scale.of(found.X, found.pool).apply(found.X)
    return trust(x, found.targets, name_features(names))


def test_good_names_are_believed_and_others_are_not() -> None:
    found = points(60)
    good = _trust(found, found.names)
    assert good > 0.5
    assert _trust(found, np.roll(found.names, 1, axis=0)) == 0.0  # each name is that of another label
    assert (
        _trust(found, np.random.default_rng(9).normal(size=found.names.shape).astype(np.float32)) < good / 2
    )


def test_names_that_are_all_equal_say_nothing() -> None:
    found = points()
    assert _trust(found, np.ones_like(found.names)) == 0.0
    assert not name_features(np.ones((3, 4), np.float32)).any()
    assert not name_features(np.zeros((3, 4), np.float32)).any()
    assert name_features(np.zeros((0, 4), np.float32)).shape == (0, 4)


def test_names_are_believed_before_the_first_label() -> None:
    found = points()
    rows = name_features(found.names)
    assert trust(found.X[:0], found.targets[:0], rows) == 1.0


def _near_their_names(labels: int = 6, each: int = 4) -> tuple[Floats, Rows, Floats]:
    """Return texts close to the names of their labels, the labels, and the names' features."""
    random = np.random.default_rng(0)
    rows = name_features(random.normal(size=(labels, 24)).astype(np.float32))
    targets = np.arange(each * labels) % labels
    noise = random.normal(size=(len(targets), 24)) / 10
    return (rows[targets] + noise).astype(np.float32), targets, rows


def test_a_wrong_name_among_good_ones_is_not_believed() -> None:
    x, targets, rows = _near_their_names()
    weights = name_weights(x, targets, rows[[1, 0, 2, 3, 4, 5]])
    assert not weights[:2].any()
    assert weights[2:].min() > 0.1


def test_wrong_names_cast_doubt_on_those_of_other_labels() -> None:
    x, targets, rows = _near_their_names()
    some = targets != 5
    good = name_weights(x[some], targets[some], rows)
    doubted = name_weights(x[some], targets[some], rows[[1, 0, 2, 3, 4, 5]])
    assert 0 < doubted[5] < good[5]


@given(st.integers(0, 50), st.integers(0, 40), st.integers(1, 7))
def test_no_name_weighs_more_than_a_text(seed: int, n: int, labels: int) -> None:
    found = points(n, 0, 8, labels, seed)
    weights = name_weights(found.X, found.targets, name_features(found.names))
    assert weights.shape == (labels,)
    assert ((weights == 0) | ((weights >= MIN_TRUST) & (weights <= 1))).all()


@given(st.integers(0, 50), st.integers(1, 40), st.integers(2, 7))
def test_trust_is_a_weight_whatever_the_order_of_labels(seed: int, n: int, labels: int) -> None:
    found = points(n, 0, 8, labels, seed)
    noise = np.random.default_rng(seed).normal(size=found.names.shape).astype(np.float32)
    x, rows = Scale.of(found.X, found.pool).apply(found.X), name_features(found.names + 2 * noise)
    weight = trust(x, found.targets, rows)
    assert weight == 0 or MIN_TRUST <= weight <= 1
    order = np.random.default_rng(seed).permutation(labels)
    assert trust(x, np.argsort(order)[found.targets], rows[order]) == pytest.approx(weight, abs=0.01)


@given(st.integers(0, 50), st.integers(2, 7))
def test_names_have_length_one_without_what_they_share(seed: int, labels: int) -> None:
    found = points(1, 0, 8, labels, seed)
    rows = name_features(found.names)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(1, abs=1e-5)
    assert name_features(found.names + 5) == pytest.approx(rows, abs=1e-4)
