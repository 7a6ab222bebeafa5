"""What this processor could do: the matrix products of a model's layers, as fast as its libraries compute them.

`python -m bench.peers.ceiling LAYERS WIDTH INNER CORES` prints the operations per second of int8 (oneDNN, unsigned by signed bytes with
weights laid out beforehand, as CTranslate2 and torch quantise) and of fp32 (the better of MKL and oneDNN), all cores together.
Attention's own products, a hundredth of the whole, are left out: so is everything but products.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import torch

ROWS = (256, 1024, 4096)
"""Tokens of a product: the best counts."""
_SECONDS = 0.25


def shapes(width: int, inner: int) -> dict[tuple[int, int], int]:
    """Return how often a layer multiplies by a weight of (inputs, outputs): query, key, value, output, and twice in its feed-forward part."""
    return {(width, width): 4, (width, inner): 1, (inner, width): 1}


def operations(width: int, inner: int, layers: int) -> float:
    """Return the operations for one token: two for each weight."""
    return 2.0 * layers * sum(a * b * count for (a, b), count in shapes(width, inner).items())


def fastest(build: Callable[[int, int, int], Callable[[], Any]], width: int, inner: int) -> float:
    """Return operations per second for the products of a layer, each with the rows that suit it best."""
    seconds = sum(
        count * min(_best_seconds(build(rows, a, b)) / rows for rows in ROWS)
        for (a, b), count in shapes(width, inner).items()
    )
    return operations(width, inner, 1) / seconds


def _best_seconds(product: Callable[[], Any]) -> float:
    product()
    found, end = [], time.perf_counter() + _SECONDS
    while time.perf_counter() < end:
        began = time.perf_counter()
        product()
        found.append(time.perf_counter() - began)
    return min(found)


def mkl(rows: int, inputs: int, outputs: int) -> Callable[[], Any]:
    left, right, out = torch.rand(rows, inputs), torch.rand(inputs, outputs), torch.empty(rows, outputs)
    return lambda: torch.mm(left, right, out=out)


def onednn(rows: int, inputs: int, outputs: int) -> Callable[[], Any]:
    left, weight = torch.rand(rows, inputs), torch.rand(outputs, inputs)
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, rows)  # noqa: SLF001  # torch has no public name for it
    product = torch.ops.mkldnn._linear_pointwise  # noqa: SLF001  # as above
    return lambda: product(left, packed, None, "none", [], "")


def int8(rows: int, inputs: int, outputs: int) -> Callable[[], Any]:
    left = torch.randint(0, 255, (rows, inputs), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (outputs, inputs), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, [rows, inputs])
    scales, zeros = torch.ones(outputs), torch.zeros(outputs, dtype=torch.int32)
    product = torch.ops.onednn.qlinear_pointwise
    return lambda: product(
        left, 1.0, 0, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], "none"
    )


def main() -> None:
    layers, width, inner, cores = map(int, sys.argv[1:])
    torch.set_num_threads(cores)
    found: dict[str, float | str] = {"operations": operations(width, inner, layers)}
    with torch.inference_mode():
        for name, build in {"int8": int8, "mkl": mkl, "onednn": onednn}.items():
            try:
                found[name] = fastest(build, width, inner)
            except (RuntimeError, AttributeError, TypeError) as error:  # not in this build of torch
                found[f"{name}_error"] = str(error).splitlines()[0]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
