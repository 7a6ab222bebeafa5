"""methods.typicality: texts that names are less sure of than of the project's others."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.data.features import Floats, Rows
from services.trainer.methods.names import name_features, name_weights
from services.trainer.methods.scaling import Scale
from services.trainer.methods.typicality import typicality
from services.trainer.methods.zero_shot import NAME_WEIGHT, mixture
from tests.support.points import points


def _scaled(seed: int = 0) -> tuple[Floats, Floats, Rows]:
    found = points(6, 600, seed=seed)
    scale = Scale.of(found.pool, found.pool[:0])
    return name_features(found.names), scale.apply(found.pool), found.pool_targets


def _least_sure(names: Floats, pool: Floats) -> Rows:
    centres, logs = mixture(np.float32(NAME_WEIGHT) * names, pool)
    two = np.partition(20 * (pool @ centres.T) + logs, -2, axis=1)[:, -2:]
    return np.asarray(np.argsort(two[:, 1] - two[:, 0]), np.int64)


@pytest.mark.parametrize("seed", range(3))
def test_random_texts_are_typical_and_uncertain_ones_are_not(seed: int) -> None:
    names, pool, _ = _scaled(seed)
    assert typicality(pool[:60], names, pool[60:]) > 0.8
    order = _least_sure(names, pool)
    assert typicality(pool[order[:30]], names, pool[order[30:]]) < 0.2
    assert typicality(pool[order[-60:]], names, pool[order[:-60]]) == 1


def test_uncertain_texts_contradict_names_less_than_random_ones() -> None:
    names, pool, targets = _scaled()
    rows = _least_sure(names, pool)[:40]
    lying = np.roll(names, 1, axis=0)
    assert (
        name_weights(pool[rows], targets[rows], names, 0.1).min()
        > name_weights(pool[rows], targets[rows], names).min()
    )
    assert not name_weights(pool[:60], targets[:60], lying).any()


@settings(max_examples=30)
@given(st.integers(0, 50), st.integers(0, 5), st.integers(0, 6), st.integers(0, 30))
def test_it_is_a_share_whatever_is_missing(seed: int, labels: int, n: int, m: int) -> None:
    random = np.random.default_rng(seed)
    texts, names, pool = (random.normal(size=(rows, 8)).astype(np.float32) for rows in (n, labels, m))
    found = typicality(texts, names, pool)
    assert 0 <= found <= 1
    if not n or not m or labels < 2:
        assert found == 1
    assert typicality(texts, np.zeros_like(names), pool) == 1
