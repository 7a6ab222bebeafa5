"""The benchmark of GPUs, on a CPU and a tiny model: whether it measures, not how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from bench import gpu
from bench.fits import Material
from bench.gemm import ceiling, shapes_of, token_gigaflop
from bench.result import Options, Skip
from services.engine.tokenise import encode
from services.trainer.data.base_model import load_base
from tests.support.base_models import TEXTS, build_tiny_base


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Material:
    base = load_base(str(build_tiny_base(tmp_path_factory.mktemp("base"))), 32)
    return Material(base, encode(base.tokenizer, TEXTS), np.arange(len(TEXTS)) % 2, 2)


def test_without_a_gpu_it_says_that_it_was_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rig: Any = None
    with pytest.raises(Skip, match="no GPU: not run"):
        gpu.run(Options(Path(), Path()), rig)


def test_serving_and_training_are_measured(given: Material) -> None:
    works = [gpu.serve(given, "cpu", rounds=2), gpu.train(given, "cpu", rounds=1, epochs=1)]
    assert [len(work.speeds) for work in works] == [2, 1]
    assert all(work.share > 0 and work.ceiling > 0 for work in works)
    result = gpu._result(works, "a card", rounds=2)
    assert result.sentence.startswith("On one a card: features, torch-fp32:")
    assert {len(row) for row in result.rows} == {4}


def test_the_pooler_of_a_classifier_does_not_count() -> None:
    model = nn.ModuleDict({"layer": nn.Linear(4, 8), "pooler": nn.Linear(4, 4)})
    assert shapes_of(model) == {(4, 8): 1}
    assert token_gigaflop({(4, 8): 2}, passes=3) == pytest.approx(3 * 2 * 64 / 1e9)


def test_a_ceiling_is_a_rate() -> None:
    assert ceiling({(8, 16): 2, (16, 8): 1}) > 0
