"""The choice of how matrices are multiplied, and what it changes."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from services.trainer.methods import precision
from services.trainer.methods.precision import (
    BF16,
    ONEDNN,
    TORCH,
    Precision,
    choose_precision,
    computed_by,
    costliest_shape,
    fastest,
    measure_rates,
)

RATE = st.floats(1.0, 2_000.0)


@given(st.fixed_dictionaries({TORCH: RATE}, optional={ONEDNN: RATE, BF16: RATE}))
def test_never_slower_than_torch_itself(rates: dict[str, float]) -> None:
    assert rates[fastest(rates)] >= rates[TORCH]


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({TORCH: 232.0, ONEDNN: 540.0, BF16: 994.0}, BF16),
        ({TORCH: 232.0, ONEDNN: 540.0, BF16: 600.0}, ONEDNN),
        ({TORCH: 140.0, ONEDNN: 145.0, BF16: 30.0}, TORCH),
        ({TORCH: 140.0, ONEDNN: 145.0, BF16: 200.0}, TORCH),
        ({TORCH: 140.0}, TORCH),
    ],
)
def test_another_way_must_be_clearly_faster(rates: dict[str, float], expected: str) -> None:
    assert fastest(rates) == expected


def test_measures_every_way_and_restores_the_threads() -> None:
    threads = torch.get_num_threads()
    rates = measure_rates(128, 128)
    assert set(rates) == {TORCH, ONEDNN, BF16}
    assert min(rates.values()) > 0
    assert torch.get_num_threads() == threads


def test_a_hopeless_way_is_not_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def seconds(name: str, *_: Any) -> float:
        asked.append(name)
        return 4.0 if name == BF16 else 1.0

    monkeypatch.setattr(precision, "_seconds_of", seconds)
    rates = measure_rates(128, 128)
    assert rates[TORCH] == 4 * rates[BF16]
    assert asked.count(BF16) == 2 < asked.count(TORCH)


def test_the_costliest_layers_are_measured() -> None:
    layers = [nn.Linear(128, 512), nn.Linear(512, 128), nn.Linear(512, 128), nn.Linear(128, 128)]
    assert costliest_shape(nn.Sequential(*layers)) == (512, 128)
    assert costliest_shape(nn.LayerNorm(4)) is None


def test_small_models_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "measure_rates", lambda *_: pytest.fail("measured"))
    assert choose_precision(nn.Linear(32, 512)) == Precision()


def test_the_choice_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "measure_rates", lambda *_: {TORCH: 150.4, ONEDNN: 150.0, BF16: 480.0})
    found = choose_precision(nn.Linear(128, 128))
    assert str(found) == "bf16 products (GFLOP/s: fp32 150, fp32 by oneDNN 150, bf16 products 480)"


@pytest.mark.parametrize(("name", "tolerance"), [(TORCH, 0.0), (ONEDNN, 1e-5), (BF16, 0.05)])
def test_gradients_are_those_of_torch(name: str, tolerance: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 48), nn.GELU(), nn.Linear(48, 5, bias=False))
    x = torch.randn(3, 7, 64, requires_grad=True)

    def gradients() -> list[torch.Tensor]:
        return list(torch.autograd.grad(model(x).square().sum(), [x, *model.parameters()]))

    expected = gradients()
    with computed_by(name, model):
        found = gradients()
    for one, other in zip(found, expected, strict=True):
        assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())
    assert all(torch.equal(one, other) for one, other in zip(gradients(), expected, strict=True))


@pytest.mark.parametrize("name", [TORCH, ONEDNN, BF16])
def test_nothing_stays_changed_after_an_error(name: str) -> None:
    model = nn.Linear(4, 4)
    mkldnn: Any = torch.backends.mkldnn
    before = mkldnn.matmul.fp32_precision
    with pytest.raises(ValueError, match="stop"), computed_by(name, model):
        raise ValueError("stop")
    assert mkldnn.matmul.fp32_precision == before
    assert "forward" not in vars(model)
