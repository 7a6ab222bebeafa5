from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from services.core.errors import EngineError
from services.engine.head import Layer
from services.engine.pooling import Pooler
from services.engine.whole_model import read_ct2_head, read_sentence_transformers
from tests.support.whole_models import write_ct2_head


def _write_head(folder: Path) -> None:
    layers = (Layer(np.ones((3, 4), np.float32), np.zeros(3, np.float32), "tanh"),)
    write_ct2_head(Pooler("cls", normalize=True), layers, folder)


def test_reads_the_head_of_an_int8_model(tmp_path: Path) -> None:
    _write_head(tmp_path)
    pooler, (layer,) = read_ct2_head(tmp_path)
    assert (pooler.mode, pooler.normalize, layer.activation, layer.weight.shape) == (
        "cls",
        True,
        "tanh",
        (3, 4),
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"pooling": "attention"}, "unknown pooling 'attention'"),
        ({"activations": ["swish"]}, "unknown activation 'swish'"),
        ({"activations": []}, "no output layer"),
        ({"activations": ["none", "none"]}, "1.weight"),
        ({"format": 2}, "upgrade Fitloop"),
    ],
)
def test_unknown_head_is_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    _write_head(tmp_path)
    document = json.loads((tmp_path / "head.json").read_text()) | change
    (tmp_path / "head.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match=complaint):
        read_ct2_head(tmp_path)


def _write_modules(folder: Path, pooling: dict[str, bool]) -> None:
    for name in ("1_Pooling", "2_Dense"):
        (folder / name).mkdir()
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Dense", "Dense")]
    (folder / "modules.json").write_text(
        json.dumps([{"path": path, "type": f"sentence_transformers.models.{kind}"} for path, kind in kinds])
    )
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    dense = {"activation_function": "torch.nn.modules.activation.Tanh"}
    (folder / "2_Dense" / "config.json").write_text(json.dumps(dense))
    save_file({"linear.weight": np.ones((3, 4), np.float32)}, folder / "2_Dense" / "model.safetensors")


def test_reads_sentence_transformers_modules(tmp_path: Path) -> None:
    _write_modules(tmp_path, {"pooling_mode_cls_token": True})
    pooler, (layer,) = read_sentence_transformers(tmp_path)
    assert (pooler.mode, pooler.normalize, layer.activation, len(layer.bias)) == ("cls", False, "tanh", 3)
    assert not layer.bias.any()


def test_unknown_pooling_is_refused(tmp_path: Path) -> None:
    _write_modules(tmp_path, {"pooling_mode_max_tokens": True})
    with pytest.raises(EngineError, match="neither mean nor cls"):
        read_sentence_transformers(tmp_path)


def test_missing_file_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        read_sentence_transformers(tmp_path)
