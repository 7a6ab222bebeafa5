"""Runs by `lp-ft` on a base model whose last layers are trained alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from services.core.domain import Method
from services.trainer.methods import hidden_states
from tests.support.base_models import build_tiny_base
from tests.support.preemption import check_resumed_run
from tests.support.trainer import TrainerWorld

FINE = {"num_train_epochs": 4.0, "learning_rate": 5e-3}


@pytest.fixture
def deep(tmp_path: Path) -> TrainerWorld:
    """A world whose base model has four layers."""
    return TrainerWorld(tmp_path / "data", build_tiny_base(tmp_path / "deep", spread=0.3, layers=4))


def test_lower_layers_are_served_as_they_were(deep: TrainerWorld) -> None:
    deep.label(60)
    for method in (Method.LINEAR_PROBE, Method.LP_FT):
        deep.train(deep.request(method, **FINE, budget_seconds=1e6))
    before, after = deep.weights("support-1"), deep.weights("support-2")
    changed = {name for name, one in after.items() if not np.array_equal(one, before[name])}
    assert {name[:15] for name in changed} == {"encoder.layer.2", "encoder.layer.3"}
    assert deep.manifest("support-2").lineage.layers == 2


def test_texts_that_are_too_many_to_keep_give_the_same(
    deep: TrainerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep.label(60)
    deep.train(deep.request(Method.LP_FT, **FINE))
    monkeypatch.setattr(hidden_states, "MAX_BYTES", 0)
    deep.train(deep.request(Method.LP_FT, **FINE))
    kept, computed = deep.weights("support-1"), deep.weights("support-2")
    for name, one in kept.items():
        np.testing.assert_allclose(one, computed[name], atol=2e-2, err_msg=name)


def test_a_preempted_run_resumes_its_last_layers(deep: TrainerWorld) -> None:
    deep.label(60)
    check_resumed_run(deep, FINE)
