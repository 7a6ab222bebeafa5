"""What matrix products of a model's shapes reach at most, and how many a token costs: training and serving are compared with it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

ROWS = 1_024
"""Tokens of a product on a CPU: those of a batch in training."""
GPU_ROWS = 32_768
_ROUNDS = 12
Shapes = Mapping[tuple[int, int], int]
"""Inputs and outputs of the dense layers that compute every token, and how many there are."""


def shapes_of(encoder: nn.Module) -> Shapes:
    """Return the encoder's dense layers; its pooler computes one token of a text, and does not count."""
    return Counter(
        (layer.in_features, layer.out_features)
        for name, layer in encoder.named_modules()
        if isinstance(layer, nn.Linear) and "pooler" not in name
    )


def token_gigaflop(shapes: Shapes, passes: int = 1) -> float:
    """Return the GFLOP of a token's dense layers: one pass to answer, three to train. Attention adds 1-7 %."""
    return passes * 2 * sum(inputs * outputs * count for (inputs, outputs), count in shapes.items()) / 1e9


def ceiling(
    shapes: Shapes, device: str = "cpu", dtype: Any = torch.float32, *, backward: bool = True
) -> float:
    """Return the GFLOP/s of these products alone, in torch, on all threads: the best of twelve rounds."""
    rows = GPU_ROWS if device == "cuda" else ROWS
    materials = [
        tuple(torch.randn(*size, device=device, dtype=dtype) for size in ((rows, k), (n, k), (rows, n)))
        for k, n in shapes
    ]
    best = min(_round(materials, list(shapes.values()), device, backward=backward) for _ in range(_ROUNDS))
    return rows * token_gigaflop(shapes, 3 if backward else 1) / best


def _round(materials: list[Any], counts: list[int], device: str, *, backward: bool) -> float:
    """Return the seconds of each product once, times how many there are."""
    seconds = 0.0
    with torch.inference_mode():
        for (x, weight, gradient), count in zip(materials, counts, strict=True):
            _synchronise(device)
            begun = time.perf_counter()
            nn.functional.linear(x, weight)
            if backward:
                torch.mm(gradient, weight)
                torch.mm(gradient.t(), x)
            _synchronise(device)
            seconds += count * (time.perf_counter() - begun)
    return seconds


def _synchronise(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
