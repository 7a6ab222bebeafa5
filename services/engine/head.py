"""The classification head in numpy, from an encoder's hidden states to logits: pooling, then dense layers.

It covers sentence-transformers' layout (mean, normalise, dense) and the heads of BERT, DistilBERT and the RoBERTa family
([CLS], dense, activation, dense). Stored as head.json and head.safetensors beside the int8 model.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from services.core.errors import EngineError

Floats = NDArray[np.float32]
FORMAT = 1


def _gelu(values: Floats) -> Floats:
    # Abramowitz and Stegun 7.1.26 is within 1.5e-7 of erf, which numpy lacks.
    x = np.abs(values) / np.float32(math.sqrt(2))
    t = 1 / (1 + 0.3275911 * x)
    polynomial = t * (
        0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))
    )
    erf = np.sign(values) * (1 - polynomial * np.exp(-x * x))
    return np.asarray(values * 0.5 * (1 + erf), dtype=np.float32)


ACTIVATIONS: dict[str, Callable[[Floats], Floats]] = {
    "none": lambda values: values,
    "tanh": np.tanh,
    "relu": lambda values: np.maximum(values, np.float32(0)),
    "gelu": _gelu,
}


@dataclass(frozen=True, slots=True)
class Layer:
    """activation(x @ weight.T + bias); weight (out, in), bias (out,)."""

    weight: Floats
    bias: Floats
    activation: str = "none"

    def apply(self, features: Floats) -> Floats:
        return ACTIVATIONS[self.activation](features @ self.weight.T + self.bias)


@dataclass(frozen=True, slots=True)
class PooledHead:
    """Pooling `mean` (over the real tokens) or `cls` (the first token), optional L2 normalisation, dense layers."""

    pooling: str
    normalize: bool
    layers: tuple[Layer, ...]

    @property
    def outputs(self) -> int:
        """Return the number of logits per text."""
        return len(self.layers[-1].bias)

    def pool(self, hidden: Floats, lengths: Sequence[int]) -> Floats:
        """Pool hidden states (texts, tokens, d) to features (texts, d); `lengths` counts each text's real tokens."""
        if self.pooling == "cls":
            features = hidden[:, 0]
        else:
            features = np.stack(
                [row[:length].mean(axis=0) for row, length in zip(hidden, lengths, strict=True)]
            )
        if self.normalize:
            norms = np.linalg.norm(features, axis=1, keepdims=True)
            features = features / np.maximum(norms, np.float32(1e-12))
        return np.asarray(features, dtype=np.float32)

    def logits(self, hidden: Floats, lengths: Sequence[int]) -> Floats:
        """Return logits (texts, outputs), float32."""
        features = self.pool(hidden, lengths)
        for layer in self.layers:
            features = layer.apply(features)
        return features

    def write(self, folder: Path) -> None:
        """Write head.json and head.safetensors into `folder`."""
        tensors = {f"{n}.weight": np.ascontiguousarray(layer.weight) for n, layer in enumerate(self.layers)}
        tensors |= {f"{n}.bias": np.ascontiguousarray(layer.bias) for n, layer in enumerate(self.layers)}
        save_file(tensors, folder / "head.safetensors")
        document = {
            "format": FORMAT,
            "pooling": self.pooling,
            "normalize": self.normalize,
            "activations": [layer.activation for layer in self.layers],
        }
        (folder / "head.json").write_text(json.dumps(document, indent=1), encoding="utf-8")


def read_head(folder: Path) -> PooledHead:
    """Read what `PooledHead.write` wrote into `folder`. Raises EngineError."""
    try:
        document = json.loads((folder / "head.json").read_bytes())
        tensors = load_file(folder / "head.safetensors")
        layers = tuple(
            Layer(tensors[f"{n}.weight"], tensors[f"{n}.bias"], activation)
            for n, activation in enumerate(document["activations"])
        )
        return _checked(PooledHead(document["pooling"], document["normalize"], layers), document["format"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise EngineError(f"The classification head of the model cannot be read: {error!r}") from error


def read_sentence_transformers(folder: Path) -> PooledHead:
    """Read the modules after the Transformer in sentence-transformers' layout. Raises EngineError for unknown ones."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        kinds = [(str(module["type"]).rpartition(".")[2], folder / module["path"]) for module in modules]
        pooling = _pooling([path for kind, path in kinds if kind == "Pooling"])
        layers = tuple(_dense(path) for kind, path in kinds if kind == "Dense")
        return _checked(PooledHead(pooling, any(kind == "Normalize" for kind, _ in kinds), layers))
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise EngineError(
            f"The sentence-transformers modules of the model cannot be read: {error!r}"
        ) from error


def _pooling(paths: Sequence[Path]) -> str:
    config: dict[str, Any] = json.loads((paths[0] / "config.json").read_bytes()) if paths else {}
    if config.get("pooling_mode_mean_tokens"):
        return "mean"
    if config.get("pooling_mode_cls_token"):
        return "cls"
    raise ValueError("its pooling is neither mean nor cls")


def _dense(folder: Path) -> Layer:
    config = json.loads((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    activation = str(config["activation_function"]).rpartition(".")[2].lower().replace("identity", "none")
    weight = tensors["linear.weight"]
    return Layer(weight, tensors.get("linear.bias", np.zeros(len(weight), np.float32)), activation)


def _checked(head: PooledHead, number: int = FORMAT) -> PooledHead:
    if number > FORMAT:
        raise ValueError(f"its format {number} is newer than {FORMAT}: upgrade Fitloop")
    if head.pooling not in ("mean", "cls"):
        raise ValueError(f"unknown pooling {head.pooling!r}")
    if not head.layers:
        raise ValueError("it has no output layer")
    for layer in head.layers:
        if layer.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {layer.activation!r}")
        if layer.weight.ndim != 2 or layer.bias.shape != (layer.weight.shape[0],):
            raise ValueError(f"weight {layer.weight.shape} and bias {layer.bias.shape} do not match")
    return head
