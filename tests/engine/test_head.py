from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from services.core.errors import EngineError, UnknownFormat
from services.engine.head import ACTIVATIONS, FILE, Head, Layer, read_head

RANDOM = np.random.default_rng(0)
FEATURES = RANDOM.normal(size=(5, 4)).astype(np.float32)


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


def test_head_round_trip(tmp_path: Path) -> None:
    head = Head(
        (_build_layer(4, 4, "tanh"), _build_layer(3, 4)), 1.5, np.array([0.5, 0.25, 0.125], np.float32)
    )
    head.write(tmp_path)
    again = read_head(tmp_path / FILE)
    assert (again.temperature, again.outputs(4)) == (1.5, 3)
    assert again.thresholds is not None
    assert again.thresholds.tolist() == [0.5, 0.25, 0.125]
    assert np.array_equal(again.logits(FEATURES), head.logits(FEATURES))


def test_head_without_layers_passes_logits_through(tmp_path: Path) -> None:
    Head(temperature=2.0).write(tmp_path)
    again = read_head(tmp_path / FILE)
    assert np.array_equal(again.logits(FEATURES), FEATURES)
    assert (again.outputs(4), again.temperature, again.thresholds) == (4, 2.0, None)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"activations": '["swish"]'}, "unknown activation 'swish'"),
        ({"activations": '["none", "none"]'}, "1.weight"),
        ({"activations": "none"}, "cannot be read"),
    ],
)
def test_unknown_head_is_refused(tmp_path: Path, change: dict[str, str], complaint: str) -> None:
    Head((_build_layer(3, 4),)).write(tmp_path)
    metadata = {"format": "1", "activations": '["none"]'} | change
    save_file(load_file(tmp_path / FILE), tmp_path / FILE, metadata)
    with pytest.raises(EngineError, match=complaint):
        read_head(tmp_path / FILE)


def test_head_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    save_file({"0.weight": np.zeros((3, 4), np.float32)}, tmp_path / FILE, {"format": "2"})
    with pytest.raises(UnknownFormat, match="upgrade Fitloop"):
        read_head(tmp_path / FILE)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"0.bias": np.zeros(2, np.float32)}, "do not match"),
        ({"temperature": np.zeros(1, np.float32)}, "temperature is 0.0"),
        ({"temperature": np.array([np.nan], np.float32)}, "temperature is nan"),
    ],
)
def test_wrong_tensors_are_refused(
    tmp_path: Path, change: dict[str, NDArray[np.float32]], complaint: str
) -> None:
    Head((_build_layer(3, 4),)).write(tmp_path)
    metadata = {"format": "1", "activations": '["none"]'}
    save_file(load_file(tmp_path / FILE) | change, tmp_path / FILE, metadata)
    with pytest.raises(EngineError, match=complaint):
        read_head(tmp_path / FILE)


def test_truncated_head_is_refused(tmp_path: Path) -> None:
    Head((_build_layer(3, 4),)).write(tmp_path)
    whole = (tmp_path / FILE).read_bytes()
    for size in (0, 7, len(whole) // 2, len(whole) - 1):
        (tmp_path / FILE).write_bytes(whole[:size])
        with pytest.raises(EngineError, match="cannot be read"):
            read_head(tmp_path / FILE)


def test_head_of_another_width_is_refused() -> None:
    with pytest.raises(EngineError, match="reads 4 features, and its encoder answers 5"):
        Head((_build_layer(3, 4),)).outputs(5)


def test_several_labels_are_chosen_at_their_thresholds(tmp_path: Path) -> None:
    thresholds = np.array([0.5, 0.25, 0.125], np.float32)
    Head((_build_layer(3, 4),), 1.0, thresholds).write(tmp_path)
    again = read_head(tmp_path / FILE)
    found, logits = again.probabilities(FEATURES), again.logits(FEATURES)
    assert np.allclose(found[:, 0], 1 / (1 + np.exp(-logits[:, 0])), atol=1e-6)
    assert ((logits > 1e-4) <= (found >= thresholds)).all()
    assert ((logits < -1e-4) <= (found < thresholds)).all()


def test_one_label_has_probabilities_that_sum_to_1() -> None:
    found = Head((_build_layer(3, 4),), 2.0).probabilities(FEATURES)
    assert np.allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("thresholds", [[0.5], [0.5, 0.5, 1.0], [0.5, 0.0, 0.5], [0.5, np.nan, 0.5]])
def test_thresholds_that_are_no_probabilities_are_refused(tmp_path: Path, thresholds: list[float]) -> None:
    Head((_build_layer(3, 4),), 1.0, np.array(thresholds, np.float32)).write(tmp_path)
    with pytest.raises(EngineError, match="thresholds"):
        read_head(tmp_path / FILE)
