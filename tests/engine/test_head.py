from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from services.core.errors import EngineError
from services.engine.head import ACTIVATIONS, Layer, PooledHead, read_head, read_sentence_transformers

RANDOM = np.random.default_rng(0)
HIDDEN = RANDOM.normal(size=(3, 5, 4)).astype(np.float32)


def _build_layer(outputs: int, inputs: int, activation: str = "none") -> Layer:
    weight, bias = RANDOM.normal(size=(outputs, inputs)), RANDOM.normal(size=outputs)
    return Layer(weight.astype(np.float32), bias.astype(np.float32), activation)


@pytest.mark.parametrize(
    ("name", "of_torch"),
    [("none", torch.nn.Identity()), ("tanh", torch.tanh), ("relu", torch.relu), ("gelu", torch.nn.GELU())],
)
def test_activations_match_torch(name: str, of_torch: torch.nn.Module) -> None:
    values = np.linspace(-6, 6, 500, dtype=np.float32)
    assert np.abs(ACTIVATIONS[name](values) - of_torch(torch.from_numpy(values)).numpy()).max() < 2e-6


def test_mean_pooling_ignores_padding() -> None:
    head = PooledHead("mean", normalize=False, layers=(_build_layer(2, 4),))
    expected = np.stack([HIDDEN[0, :5].mean(0), HIDDEN[1, :2].mean(0), HIDDEN[2, :1].mean(0)])
    assert np.allclose(head.pool(HIDDEN, [5, 2, 1]), expected, atol=1e-6)


def test_normalised_features_have_unit_length() -> None:
    head = PooledHead("cls", normalize=True, layers=(_build_layer(2, 4),))
    assert np.allclose(np.linalg.norm(head.pool(HIDDEN, [5, 5, 5]), axis=1), 1)
    assert not head.pool(HIDDEN * 0, [5, 5, 5]).any()


def test_head_round_trip(tmp_path: Path) -> None:
    head = PooledHead("cls", normalize=False, layers=(_build_layer(4, 4, "tanh"), _build_layer(3, 4)))
    head.write(tmp_path)
    again = read_head(tmp_path)
    assert (again.pooling, again.normalize, again.outputs) == ("cls", False, 3)
    assert np.array_equal(again.logits(HIDDEN, [5, 5, 5]), head.logits(HIDDEN, [5, 5, 5]))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"pooling": "max"}, "unknown pooling 'max'"),
        ({"activations": ["swish"]}, "unknown activation 'swish'"),
        ({"activations": []}, "no output layer"),
        ({"activations": ["none", "none"]}, "1.weight"),
        ({"format": 2}, "upgrade Fitloop"),
    ],
)
def test_unknown_head_is_refused(tmp_path: Path, change: dict[str, object], complaint: str) -> None:
    PooledHead("cls", normalize=False, layers=(_build_layer(3, 4),)).write(tmp_path)
    document = json.loads((tmp_path / "head.json").read_text()) | change
    (tmp_path / "head.json").write_text(json.dumps(document))
    with pytest.raises(EngineError, match=complaint):
        read_head(tmp_path)


def test_weight_shape_mismatch_is_refused(tmp_path: Path) -> None:
    PooledHead("cls", normalize=False, layers=(_build_layer(3, 4),)).write(tmp_path)
    save_file(
        {"0.weight": np.zeros((3, 4), np.float32), "0.bias": np.zeros(2, np.float32)},
        tmp_path / "head.safetensors",
    )
    with pytest.raises(EngineError, match="do not match"):
        read_head(tmp_path)


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
    head = read_sentence_transformers(tmp_path)
    assert (head.pooling, head.normalize, head.layers[0].activation, head.outputs) == (
        "cls",
        False,
        "tanh",
        3,
    )
    assert not head.layers[0].bias.any()


def test_unknown_pooling_is_refused(tmp_path: Path) -> None:
    _write_modules(tmp_path, {"pooling_mode_max_tokens": True})
    with pytest.raises(EngineError, match="neither mean nor cls"):
        read_sentence_transformers(tmp_path)


def test_missing_file_is_an_engine_error(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="cannot be read"):
        read_sentence_transformers(tmp_path)
