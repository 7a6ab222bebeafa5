"""Architectures that CTranslate2 lacks are computed by ONNX Runtime in int8: near fp32, whatever is padded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from services.core.errors import EngineError
from services.engine.compute import compute
from services.engine.exactness import mean_cosine
from services.engine.ort import GRAPH, OrtEngine
from services.engine.tokenise import encode
from services.engine.torch import TorchEngine
from services.trainer.data.base_model import load_base
from services.trainer.publishing.int8 import ORT, convert, engine_for, open_int8
from services.trainer.publishing.quantised_graph import KINDS, convert_to_graph
from tests.support.base_models import TEXTS, build_tiny_base


@pytest.mark.parametrize("kind", KINDS)
def test_graph_gives_the_features_of_fp32(tmp_path: Path, kind: str) -> None:
    base = load_base(str(build_tiny_base(tmp_path / "base", kind)), 32)
    assert engine_for(kind) == ORT
    convert(base.encoder, kind, tmp_path / "ort")
    engine = open_int8(tmp_path / "ort", kind, base.pooler, base.width, base.pad_id)
    ids = encode(base.tokenizer, [*TEXTS, "", "order " * 500])
    expected = compute(TorchEngine(base.source, base.pooler, base.width, base.pad_id), ids)
    assert mean_cosine(compute(engine, ids), expected) > 0.99
    alone = np.concatenate([engine.forward([one]) for one in ids])
    np.testing.assert_allclose(alone, engine.forward(ids), atol=0.02)
    engine.close()
    with pytest.raises(EngineError, match="was closed"):
        engine.forward(ids)


def test_damaged_graph_is_refused(tmp_path: Path) -> None:
    (tmp_path / GRAPH).write_bytes(b"no graph")
    with pytest.raises(EngineError, match="ONNX Runtime cannot load the int8 model"):
        OrtEngine(tmp_path, load_base(str(build_tiny_base(tmp_path / "base")), 32).pooler, 32, 0, 1)


def test_model_that_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    class Broken(torch.nn.Module):
        def forward(self, **_: torch.Tensor) -> None:
            raise RuntimeError

    with pytest.raises(EngineError, match="cannot be exported to ONNX"):
        convert_to_graph(Broken(), tmp_path / "ort")
