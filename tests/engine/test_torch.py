"""What the torch engine does around the model: batches to tensors, and pooling where the model is."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from services.engine.pooling import MODES, Pooler
from services.engine.torch import has_bf16, pad_batch, reduced

PAD = 9


def test_batches_are_padded_on_the_right() -> None:
    ids, mask = pad_batch([[1, 2, 3], [4]], PAD)
    assert ids.tolist() == [[1, 2, 3], [4, PAD, PAD]]
    assert mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert ids.dtype == mask.dtype == torch.long


def test_texts_without_tokens_are_all_padding() -> None:
    ids, mask = pad_batch([[], [4]], PAD, torch.device("cpu"))
    assert ids.tolist() == [[PAD], [4]]
    assert mask.tolist() == [[0], [1]]


@pytest.mark.parametrize("mode", sorted(MODES))
def test_pooling_on_the_gpu_gives_the_same_features(mode: str) -> None:
    hidden = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0))
    rows, pooler = [[1, 2, 3], [4], [5, 6, 7, 8, 9]], Pooler(mode, normalize=True)
    lengths = [len(row) for row in rows]
    expected = pooler.pool(hidden.numpy(), lengths)
    fewer, ones = reduced(hidden, pad_batch(rows, PAD)[1], mode, lengths)
    np.testing.assert_allclose(pooler.pool(fewer.numpy(), ones), expected, atol=1e-6)
    assert fewer.shape[1] == 1 or mode not in ("mean", "cls")


def test_a_cpu_does_not_count_as_a_gpu_with_bf16() -> None:
    assert not has_bf16(torch.device("cpu"))
