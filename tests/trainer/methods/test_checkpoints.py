"""What a preempted fine-tune leaves, and what is resumed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from services.core.errors import StoreError
from services.core.store.files import FileStore
from services.trainer.methods.checkpoints import Checkpoints
from services.trainer.methods.plan import Plan

PLAN = Plan("cross-fit", True, 12.0)


def opened(folder: Path, attempt: int = 1, fingerprint: str = "f") -> Checkpoints:
    checkpoints = Checkpoints(FileStore(folder), "1-1", attempt, 60.0)
    plan = checkpoints.resume(fingerprint)
    checkpoints.begin(fingerprint, plan or PLAN)
    return checkpoints


def stepped(model: nn.Module) -> torch.optim.AdamW:
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    model(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    return optimiser


def test_restores_model_optimiser_and_random_state(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    optimiser = stepped(model)
    opened(tmp_path).fold("fold-1").save(model, optimiser, 7)
    expected = torch.rand(3)
    other = nn.Linear(3, 2)
    fresh = torch.optim.AdamW(other.parameters(), fused=True)
    assert opened(tmp_path, 2).fold("fold-1").restore(other, fresh) == 7
    assert torch.equal(other.weight, model.weight)
    for number, values in optimiser.state_dict()["state"].items():
        for name, value in values.items():
            assert torch.equal(fresh.state_dict()["state"][number][name], value)
    assert torch.equal(torch.rand(3), expected)


def test_another_fold_starts_at_step_zero(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    opened(tmp_path).fold("fold-1").save(model, stepped(model), 7)
    assert opened(tmp_path, 2).fold("fold-2").restore(model, torch.optim.AdamW(model.parameters())) == 0


def test_a_finished_fold_keeps_logits_only(tmp_path: Path) -> None:
    logits = np.arange(6, dtype=np.float32).reshape(2, 3)
    first = opened(tmp_path)
    model = nn.Linear(3, 2)
    first.fold("fold-1").save(model, stepped(model), 7)
    first.finish("fold-1", logits)
    second = opened(tmp_path, 2)
    found = second.finished("fold-1")
    assert found is not None
    assert np.array_equal(found, logits)
    assert second.finished("fold-2") is None
    assert not any("fold-1-7" in key for key in FileStore(tmp_path).keys("runs/"))


def test_an_attempt_refers_to_earlier_ones(tmp_path: Path) -> None:
    opened(tmp_path).finish("fold-1", np.ones((1, 2), np.float32))
    opened(tmp_path, 2).finish("fold-2", np.zeros((1, 2), np.float32))
    third = opened(tmp_path, 3)
    assert third.finished("fold-1") is not None
    assert third.finished("fold-2") is not None


def test_other_labels_or_settings_are_not_resumed(tmp_path: Path) -> None:
    opened(tmp_path).finish("fold-1", np.ones((1, 2), np.float32))
    other = opened(tmp_path, 2, fingerprint="g")
    assert other.finished("fold-1") is None
    assert other.resumed_from is None


def test_resumes_the_first_attempts_plan(tmp_path: Path) -> None:
    opened(tmp_path).finish("fold-1", np.ones((1, 2), np.float32))
    again = Checkpoints(FileStore(tmp_path), "1-1", 2, 60.0)
    assert again.resume("f") == PLAN
    assert again.resumed_from == "between folds, step 0"


def test_checkpoints_are_not_pickled_and_are_cleared(tmp_path: Path) -> None:
    checkpoints = opened(tmp_path)
    assert not checkpoints.exist()
    model = nn.Linear(3, 2)
    checkpoints.fold("fold-1").save(model, stepped(model), 7)
    assert checkpoints.exist()
    keys = list(FileStore(tmp_path).keys("runs/1-1/checkpoints/"))
    assert {key.rpartition(".")[2] for key in keys} == {"safetensors", "json"}
    checkpoints.clear()
    assert not checkpoints.exist()


def test_failing_to_clear_does_not_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise StoreError("read-only")

    checkpoints = opened(tmp_path)
    checkpoints.finish("fold-1", np.zeros((1, 2), np.float32))
    monkeypatch.setattr(FileStore, "delete", refused)
    checkpoints.clear()
    assert checkpoints.exist()


def test_failing_to_save_does_not_fail_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise StoreError("disk full")

    monkeypatch.setattr(FileStore, "upload", full)
    checkpoints, model = opened(tmp_path), nn.Linear(3, 2)
    checkpoints.fold("fold-1").save(model, stepped(model), 7)
    assert not checkpoints.exist()
