from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from services.core.domain import Pooling
from services.core.errors import UnknownFormat
from services.engine.head import Layer
from services.engine.pooling import MODES, Pooler, pooler_of

RANDOM = np.random.default_rng(0)
HIDDEN = RANDOM.normal(size=(3, 5, 4)).astype(np.float32)
LENGTHS = [5, 2, 1]


@pytest.mark.parametrize("mode", sorted(MODES))
def test_padding_changes_no_pooled_feature(mode: str) -> None:
    together = Pooler(mode, normalize=False).pool(HIDDEN, LENGTHS)
    alone = [
        Pooler(mode, normalize=False).pool(HIDDEN[row : row + 1, :length], [length])
        for row, length in enumerate(LENGTHS)
    ]
    assert np.allclose(together, np.concatenate(alone), atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", HIDDEN[1, 0]),
        ("lasttoken", HIDDEN[1, 1]),
        ("max", HIDDEN[1, :2].max(0)),
        ("mean", HIDDEN[1, :2].mean(0)),
        ("mean_sqrt_len_tokens", HIDDEN[1, :2].sum(0) / np.sqrt(2)),
        ("weightedmean", (HIDDEN[1, 0] + 2 * HIDDEN[1, 1]) / 3),
    ],
)
def test_modes_pool_real_tokens(mode: str, expected: NDArray[np.float32]) -> None:
    assert np.allclose(Pooler(mode, normalize=False).pool(HIDDEN, LENGTHS)[1], expected, atol=1e-6)


def test_normalised_features_have_unit_length() -> None:
    pooler = Pooler("cls", normalize=True)
    assert np.allclose(np.linalg.norm(pooler.pool(HIDDEN, [5, 5, 5]), axis=1), 1)
    assert not pooler.pool(HIDDEN * 0, [5, 5, 5]).any()


def test_dense_layers_follow_the_pooling() -> None:
    layer = Layer(np.eye(2, 4, dtype=np.float32), np.zeros(2, np.float32), "tanh")
    found = pooler_of(Pooling("cls", normalize=False), (layer,)).pool(HIDDEN, LENGTHS)
    assert np.allclose(found, np.tanh(HIDDEN[:, 0, :2]), atol=1e-6)


def test_pooling_of_a_newer_release_is_refused() -> None:
    with pytest.raises(UnknownFormat, match="'attention' is unknown"):
        pooler_of(Pooling("attention"))
