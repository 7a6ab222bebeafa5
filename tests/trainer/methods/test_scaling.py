"""methods.scaling: a folded head answers the encoder's own features."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.trainer.methods import Head
from services.trainer.methods.scaling import Scale
from tests.support.points import points


@given(st.integers(0, 30), st.floats(0.01, 100), st.floats(-10, 10))
def test_folded_head_gives_the_same_logits(seed: int, factor: float, shift: float) -> None:
    found = points(seed=seed)
    x = (found.X * np.float32(factor) + np.float32(shift)).astype(np.float32)
    scale = Scale.of(x, found.pool[:0])
    random = np.random.default_rng(seed)
    head = Head(random.normal(size=(6, 24)).astype(np.float32), random.normal(size=6).astype(np.float32))
    expected = scale.apply(x) @ head.weight.T + head.bias
    folded = scale.fold(head)
    tolerance = 1e-4 * (1 + abs(shift) / factor)
    assert np.allclose(x @ folded.weight.T + folded.bias, expected, atol=20 * tolerance)


def test_texts_are_centred_at_a_mean_distance_of_one() -> None:
    found = points()
    scale = Scale.of(found.X, found.pool)
    scaled = scale.apply(np.concatenate([found.X, found.pool]))
    assert np.abs(scaled.mean(axis=0)).max() < 1e-5
    assert abs(np.linalg.norm(scaled, axis=1).mean() - 1) < 1e-5


def test_equal_texts_are_not_scaled_up() -> None:
    x = np.full((5, 3), 0.1, np.float32)
    assert np.abs(Scale.of(x, x[:0]).apply(x)).max() < 1e-6
    assert Scale.of(x[:0], x[:0]).length == 1
