"""How matrix products are computed in training: as the processor does it fastest, measured in milliseconds at the start.

Weights, activations and gradients stay fp32. Processors with AMX or avx512_bf16 multiply bf16 three to five times faster
than fp32; those without are four times slower with it. On AMD's, oneDNN's fp32 products are twice as fast as MKL's, which
torch prefers. So each way multiplies the model's own shapes, forward and backward, and another than torch's own must be
clearly faster.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import structlog
import torch
from torch import nn
from torch.nn.functional import linear

from services.engine.torch import has_bf16

TORCH: Final = "fp32"
"""As torch computes it: MKL on x86."""
ONEDNN: Final = "fp32 by oneDNN"
BF16: Final = "bf16 products"
GPU_BF16: Final = "bf16"
"""All of a step, on a GPU: by autocast."""
_NEEDED: Final = {TORCH: 1.0, ONEDNN: 1.15, BF16: 1.5}
"""How many times as fast as torch's own a way must be."""
_HOPELESS: Final = 0.5
"""A way below this share of the fastest is not measured a second time."""
_ROUNDS: Final = 4
_SMALLEST: Final = 128
"""Dimensions below which products take no time worth a choice."""
_PRODUCT_FLOP: Final = 4e8
"""The size of one measured product: 3 ms on one core at 130 GFLOP/s."""
_ROWS: Final = (128, 1_024)
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Precision:
    """The way that was chosen, and what was measured of each, in GFLOP/s."""

    name: str = TORCH
    rates: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """`bf16 products (GFLOP/s: fp32 150, bf16 products 480)`."""
        rates = ", ".join(f"{name} {rate:.0f}" for name, rate in self.rates.items())
        return f"{self.name} (GFLOP/s: {rates})" if rates else self.name


def choose_precision(model: nn.Module) -> Precision:
    """Measure the products of the model's most costly layer on its device, and return the way to take."""
    device = next(model.parameters()).device
    if device.type != "cpu":
        return Precision(GPU_BF16 if has_bf16(device) else TORCH)
    shape = costliest_shape(model)
    if shape is None or min(shape) < _SMALLEST:
        return Precision()
    rates = measure_rates(*shape)
    found = Precision(fastest(rates), rates)
    log.info(
        "training_precision_chosen", precision=found.name, gigaflops={k: round(v) for k, v in rates.items()}
    )
    return found


def costliest_shape(model: nn.Module) -> tuple[int, int] | None:
    """Return inputs and outputs of the kind of dense layer that has most of the weights; None without dense layers."""
    counts = Counter(
        (one.in_features, one.out_features) for one in model.modules() if isinstance(one, nn.Linear)
    )
    return max(counts, key=lambda shape: shape[0] * shape[1] * counts[shape], default=None)


def fastest(rates: Mapping[str, float]) -> str:
    """Return the fastest way of those that beat torch's own by what they need."""
    enough = [name for name, rate in rates.items() if rate >= _NEEDED[name] * rates[TORCH]]
    return max(enough, key=lambda name: rates[name] / _NEEDED[name], default=TORCH)


def measure_rates(inputs: int, outputs: int) -> dict[str, float]:
    """Return the GFLOP/s of each way for forward and backward products of this shape, the best of a few rounds.

    On one core, by the time that the thread computed: others that use the cores at this moment do not count.
    """
    rows = int(min(_ROWS[1], max(_ROWS[0], _PRODUCT_FLOP / (2 * inputs * outputs))))
    random = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, inputs, generator=random) for n in (rows, outputs))
    gradient = torch.randn(rows, outputs, generator=random)
    flop = 3 * 2 * rows * inputs * outputs
    ways = [TORCH, *([ONEDNN, BF16] if torch.backends.mkldnn.is_available() else [])]
    best: dict[str, float] = {}
    with torch.no_grad(), _one_thread():
        for number in range(_ROUNDS):
            for name in ways:
                if number > 1 and best[name] < _HOPELESS * max(best.values()):
                    continue
                seconds = _seconds_of(name, x, weight, gradient)
                if number:  # the first round makes oneDNN's kernels
                    best[name] = max(best.get(name, 0.0), flop / seconds / 1e9)
    return best


def _seconds_of(name: str, x: torch.Tensor, weight: torch.Tensor, gradient: torch.Tensor) -> float:
    product: Callable[..., Any] = _onednn_product if name == ONEDNN else linear
    with _bf16_products() if name == BF16 else _as_it_is():
        begun = time.thread_time()
        product(x, weight)
        product(gradient, weight.t())
        product(gradient.t(), x.t())
        return max(time.thread_time() - begun, 1e-9)


@contextmanager
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def computed_by(name: str, model: nn.Module) -> Iterator[None]:
    """Compute the model's products on a CPU the way that was chosen, within."""
    if name == BF16:
        with _bf16_products():
            yield
    elif name == ONEDNN:
        with _onednn_layers(model):
            yield
    else:
        yield


@contextmanager
def _as_it_is() -> Iterator[None]:
    yield


@contextmanager
def _bf16_products() -> Iterator[None]:
    """Let oneDNN multiply fp32 matrices in bf16, adding up in fp32; for the whole process."""
    mkldnn: Any = torch.backends.mkldnn  # its submodules have no types
    matmul = mkldnn.matmul
    before = matmul.fp32_precision
    matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        matmul.fp32_precision = before


@contextmanager
def _onednn_layers(model: nn.Module) -> Iterator[None]:
    """Let the model's dense layers call oneDNN themselves, within."""
    layers: list[Any] = [one for one in model.modules() if type(one) is nn.Linear]
    for one in layers:
        one.forward = _OneDnnForward(one)
    try:
        yield
    finally:
        for one in layers:
            del one.forward


@dataclass(frozen=True, slots=True)
class _OneDnnForward:
    layer: nn.Linear

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = _OneDnnLinear.apply(x, self.layer.weight, self.layer.bias)  # type: ignore[no-untyped-call]
        return found


class _OneDnnLinear(torch.autograd.Function):
    """`linear` with all three products by oneDNN."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _onednn_product(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0].reshape(-1, weight.shape[0])
        rows = x.reshape(-1, weight.shape[1])
        of_x = _onednn_product(gradient, weight.t()).view(x.shape) if ctx.needs_input_grad[0] else None
        of_weight = _onednn_product(gradient.t(), rows.t()) if ctx.needs_input_grad[1] else None
        return of_x, of_weight, gradient.sum(0) if ctx.has_bias else None


def _onednn_product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return x (…, inputs) times the transposed weight (outputs, inputs), plus the bias."""
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001  # what torch.compile calls for it
        x.contiguous(), weight.contiguous(), bias, "none", [], ""
    )
    return found
