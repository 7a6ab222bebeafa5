"""Batches, schedule and the training loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from services.core.domain import RunState, RunStatus
from services.core.errors import Preempted
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.trainer.data.features import Rows
from services.trainer.methods.checkpoints import Checkpoints
from services.trainer.methods.hidden_states import Texts
from services.trainer.methods.loop import (
    epoch_batches,
    logits_of,
    loss_of,
    optimiser_for,
    rate_at,
    schedule,
    train,
)
from services.trainer.methods.plan import Plan, Recipe
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress
from tests.support.trainer import FakeStop

RECIPE = Recipe(epochs=3.0, learning_rate=0.05, head_learning_rate=0.05, weight_decay=0.01, seed=0)
LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=300)


class Bag(nn.Module):
    """Mean of word vectors, with dropout, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.words = nn.Embedding(20, 8)
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(8, 2)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        weights = mask.unsqueeze(-1).float()
        mean = (self.words(ids) * weights).sum(1) / weights.sum(1)
        logits: torch.Tensor = self.head(self.drop(self.norm(mean)))
        return logits


def texts(n: int = 200) -> tuple[list[list[int]], Rows]:
    random = np.random.default_rng(0)
    targets = random.integers(0, 2, n)
    ids = [[int(word) for word in random.integers(1 + 9 * target, 11 + 9 * target, 6)] for target in targets]
    return ids, targets.astype(np.int64)


def fit(folder: Path, stop: Stop, *, attempt: int = 1, seconds: float = 1e9, recipe: Recipe = RECIPE) -> Bag:
    ids, targets = texts()
    model = Bag()
    checkpoints = Checkpoints(FileStore(folder), "1-1", attempt, seconds)
    plan = Plan("cross-fit", True, 1.0)
    checkpoints.resume("f")
    checkpoints.begin("f", plan)
    with Progress(Runs(FileStore(folder)), RunStatus("1-1", RunState.RUNNING)) as progress:
        train(model, model.head, Texts(ids, 0), targets, recipe, checkpoints.fold("all"), progress, stop)
    return model


@given(LENGTHS, st.integers(0, 5), st.integers(0, 5))
def test_batches_have_every_text_within_the_budget(lengths: list[int], seed: int, epoch: int) -> None:
    recipe = replace(RECIPE, seed=seed)
    batches = epoch_batches(lengths, recipe, epoch)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[row] for row in batch)
        assert len(batch) == 1 or (len(batch) <= 64 and longest * len(batch) <= 1_024)
    assert batches == epoch_batches(lengths, recipe, epoch)


def test_batches_are_of_like_length() -> None:
    lengths = [5] * 64 + [50] * 20
    batches = epoch_batches(lengths, RECIPE, 0)
    assert all(len({lengths[row] for row in batch}) == 1 for batch in batches)
    assert epoch_batches(list(range(1, 200)), RECIPE, 0) != epoch_batches(list(range(1, 200)), RECIPE, 1)


def test_schedule_has_a_fraction_of_the_last_epoch() -> None:
    lengths = [100] * 40
    whole = len(schedule(lengths, replace(RECIPE, epochs=1.0)))
    assert len(schedule(lengths, replace(RECIPE, epochs=2.5))) == 2 * whole + (whole + 1) // 2


@given(st.integers(1, 500), st.floats(0, 0.9))
def test_learning_rate_schedule(steps: int, warm_up: float) -> None:
    rates = [rate_at(step, steps, warm_up) for step in range(steps)]
    assert all(0 < rate <= 1 for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)


def test_optimiser_groups() -> None:
    model = Bag()
    groups = optimiser_for(model, model.head, replace(RECIPE, head_learning_rate=0.5)).param_groups
    found = {(group["lr"], group["weight_decay"]): len(group["params"]) for group in groups}
    assert found == {(0.05, 0.01): 1, (0.05, 0.0): 2, (0.5, 0.01): 1, (0.5, 0.0): 1}


def test_training_learns_and_reports_progress(tmp_path: Path) -> None:
    model = fit(tmp_path, Stop())
    ids, targets = texts()
    logits = logits_of(model, Texts(ids, 0), 2, Stop())
    assert (logits.argmax(1) == targets).mean() > 0.95
    status = Runs(FileStore(tmp_path)).status("1-1")
    assert status is not None
    assert status.stage == "fine-tuning all"


def test_resumed_training_gives_the_same_result(tmp_path: Path) -> None:
    unbroken = fit(tmp_path / "a", Stop())
    with pytest.raises(Preempted):
        fit(tmp_path / "b", FakeStop(5))
    with pytest.raises(Preempted):
        fit(tmp_path / "b", FakeStop(3), attempt=2)
    resumed = fit(tmp_path / "b", Stop(), attempt=3)
    for one, other in zip(unbroken.parameters(), resumed.parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_writes_checkpoints_when_due(tmp_path: Path) -> None:
    fit(tmp_path, Stop(), seconds=0.0)
    keys = list(FileStore(tmp_path).keys("runs/1-1/checkpoints/"))
    assert len(keys) == 2, "state.json, and only the newest weights"


def test_inference_is_preempted() -> None:
    ids, _ = texts()
    with pytest.raises(Preempted):
        logits_of(Bag(), Texts(ids, 0), 2, Stop(requested=True))


def test_several_labels_are_a_question_each() -> None:
    logits = torch.tensor([[2.0, -1.0], [0.0, 3.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    parts = [np.log1p(np.exp(-2)), np.log1p(np.exp(-1)), np.log(2), np.log1p(np.exp(3))]
    assert loss_of(logits, targets).item() == pytest.approx(sum(parts) / 2, rel=1e-5)
    one = nn.functional.cross_entropy(logits, torch.tensor([0, 1])).item()
    assert loss_of(logits, torch.tensor([0, 1])).item() == pytest.approx(one)
