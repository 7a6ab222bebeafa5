"""L-BFGS finds the minimum that scipy finds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.trainer.methods.lbfgs import Vector, minimise


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10_000), size=st.integers(1, 30), decades=st.floats(0, 3))
def test_quadratic_is_minimised(seed: int, size: int, decades: float) -> None:
    random = np.random.default_rng(seed)
    turned, _ = np.linalg.qr(random.normal(size=(size, size)))
    matrix = (turned * np.logspace(0, decades, size)) @ turned.T
    wanted = random.normal(size=size)

    def function(x: Vector) -> tuple[float, Vector]:
        gradient = matrix @ (x - wanted)
        return float((x - wanted) @ gradient / 2), gradient.astype(np.float32)

    found = minimise(function, np.zeros(size, np.float32), 1e-4)
    assert np.abs(matrix @ (found - wanted)).max() < 2e-3


def test_logistic_loss_is_minimised_as_by_scipy() -> None:
    from scipy.optimize import minimize

    random = np.random.default_rng(0)
    x, y = random.normal(size=(200, 10)), np.sign(random.normal(size=200))

    def function(w: Vector) -> tuple[float, Vector]:
        margin = y * (x @ w)
        slope = -y / (1 + np.exp(margin))
        value = float(np.logaddexp(0, -margin).mean() + 0.005 * w @ w)
        return value, (x.T @ slope / 200 + 0.01 * w).astype(w.dtype)

    found = minimise(function, np.zeros(10, np.float32), 1e-6)
    expected = minimize(function, np.zeros(10), jac=True, method="L-BFGS-B", options={"gtol": 1e-9}).x
    assert np.abs(found - expected).max() < 1e-3


def test_start_at_the_minimum_is_returned() -> None:
    calls = []

    def function(x: Vector) -> tuple[float, Vector]:
        calls.append(1)
        return float(x @ x), 2 * x

    assert not minimise(function, np.zeros(3, np.float32), 1e-5).any()
    assert len(calls) == 1


def test_errors_of_the_function_pass_through() -> None:
    def stopped(_: Vector) -> tuple[float, Vector]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        minimise(stopped, np.zeros(3, np.float32), 1e-5)
