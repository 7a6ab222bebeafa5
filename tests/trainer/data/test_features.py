"""Features of the base model's encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.core.domain import RunState, RunStatus
from services.core.errors import Preempted
from services.core.runs import Runs
from services.core.store.files import FileStore
from services.engine.encoder import TextEncoder, load_encoder
from services.engine.torch import pad_batch
from services.trainer.data.features import Floats, compute_features
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress
from tests.support.base_models import TEXTS
from tests.support.encoders import build_tiny_encoder


@pytest.fixture(params=["ct2-int8", "torch-fp32"])
def encoder(tmp_path: Path, request: pytest.FixtureRequest) -> TextEncoder:
    manifest = build_tiny_encoder(tmp_path / "encoder", int8=request.param == "ct2-int8")
    return load_encoder(tmp_path / "encoder", manifest, 2, 1)


def features(encoder: TextEncoder, folder: Path, texts: list[str], stop: Stop | None = None) -> Floats:
    with Progress(Runs(FileStore(folder)), RunStatus("1-1", RunState.RUNNING)) as progress:
        return compute_features(encoder, encoder.encode(texts), progress, stop or Stop())


def test_features_do_not_depend_on_the_batch(tmp_path: Path, encoder: TextEncoder) -> None:
    together = features(encoder, tmp_path, list(TEXTS))
    assert together.shape == (len(TEXTS), 32)
    assert np.allclose(np.linalg.norm(together, axis=1), 1.0, atol=1e-5)
    alone = np.vstack([features(encoder, tmp_path, [text]) for text in TEXTS])
    assert np.abs(together - alone).max() < 1e-5


def test_short_rows_are_filled_up_on_the_right() -> None:
    ids, mask = pad_batch([[5], [6, 7]], 1)
    assert ids.tolist() == [[5, 1], [6, 7]]
    assert mask.tolist() == [[1, 0], [1, 1]]


def test_preempted_features_restore_torchs_threads(tmp_path: Path, encoder: TextEncoder) -> None:
    threads = torch.get_num_threads()
    with pytest.raises(Preempted):
        features(encoder, tmp_path, list(TEXTS), Stop(requested=True))
    assert torch.get_num_threads() == threads
