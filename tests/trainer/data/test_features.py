"""Features of the frozen encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.core.domain import RunState, RunStatus
from services.core.errors import Preempted
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.engine.torch import pad_batch
from services.trainer.data.base_check import mean_pooled
from services.trainer.data.base_model import BaseModel, load_base
from services.trainer.data.features import Features, compute_features
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress
from tests.support.base_models import TEXTS


def features(base: BaseModel, folder: Path, texts: list[str], stop: Stop | None = None) -> Features:
    with Progress(Runs(FileStore(folder)), RunStatus("1-1", RunState.RUNNING)) as progress:
        return compute_features(base, texts, progress, stop or Stop())


def test_features_do_not_depend_on_the_batch(tmp_path: Path, tiny: Path) -> None:
    base = load_base(str(tiny), 32)
    together = features(base, tmp_path, list(TEXTS))
    assert together.X.shape == (len(TEXTS), 32)
    assert np.allclose(np.linalg.norm(together.X, axis=1), 1.0, atol=1e-5)
    alone = np.vstack([features(base, tmp_path, [text]).X for text in TEXTS])
    assert np.abs(together.X - alone).max() < 1e-5
    assert together.lengths == [len(ids) for ids in together.ids]
    assert together.seconds_per_token > 0


def test_mean_pooling_ignores_padding() -> None:
    hidden = torch.tensor([[[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    pooled = mean_pooled(hidden, torch.tensor([[1, 1, 0]]))
    assert torch.allclose(pooled, torch.tensor([[0.5, 0.5]]) / 0.5**0.5)


def test_short_rows_are_filled_up_on_the_right() -> None:
    ids, mask = pad_batch([[5], [6, 7]], 1)
    assert ids.tolist() == [[5, 1], [6, 7]]
    assert mask.tolist() == [[1, 0], [1, 1]]


def test_preempted_features_restore_torchs_threads(tmp_path: Path, tiny: Path) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(Preempted):
        features(load_base(str(tiny), 32), tmp_path, list(TEXTS), Stop(requested=True))
    assert torch.get_num_threads() == threads
