"""The head of a version: dense layers from a text's features to its logits, and the calibration of the answer.

One file, head.safetensors: the layers' weights and biases, the temperature and, where a text may have several labels, a threshold
for each. Reads and computes with numpy alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from services.core.errors import EngineError, UnknownFormat
from services.core.redaction import safe_reason
from services.engine.compute import sigmoid, softmax

Floats = NDArray[np.float32]
FORMAT = 1
FILE = "head.safetensors"


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


def check_layers(layers: Sequence[Layer]) -> None:
    """Raise ValueError if an activation is unknown, or the shapes of the layers do not fit."""
    width: int | None = None
    for layer in layers:
        if layer.activation not in ACTIVATIONS:
            raise ValueError(f"unknown activation {layer.activation!r}")
        if layer.weight.ndim != 2 or layer.bias.shape != (layer.weight.shape[0],):
            raise ValueError(f"weight {layer.weight.shape} and bias {layer.bias.shape} do not match")
        if width not in {None, layer.weight.shape[1]}:
            raise ValueError(f"a layer of {layer.weight.shape[1]} inputs follows one of {width} outputs")
        width = layer.weight.shape[0]


@dataclass(frozen=True, slots=True)
class Head:
    """Features (texts, d) to calibrated probabilities. Without layers the features are the logits already."""

    layers: tuple[Layer, ...] = ()
    temperature: float = 1.0
    """Divides the logits."""
    thresholds: Floats | None = None
    """(labels,) where a text may have several labels: the probability from which on each is chosen. They are folded into the last
    bias: the logit of what is chosen is >= 0. None: a text has one label."""

    @property
    def size(self) -> int:
        """Return its bytes."""
        return sum(layer.weight.nbytes + layer.bias.nbytes for layer in self.layers)

    def is_finite(self) -> bool:
        """Return whether no weight is infinite or NaN."""
        return all(np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all() for layer in self.layers)

    def outputs(self, width: int) -> int:
        """Return the number of logits for features of this width. Raises EngineError if the head is of another width."""
        if not self.layers:
            return width
        if self.layers[0].weight.shape[1] != width:
            raise EngineError(
                f"The head reads {self.layers[0].weight.shape[1]} features, and its encoder answers {width}."
            )
        return len(self.layers[-1].bias)

    def logits(self, features: Floats) -> Floats:
        """Return logits (texts, labels), not divided by the temperature."""
        for layer in self.layers:
            features = layer.apply(features)
        return features

    def probabilities(self, features: Floats) -> Floats:
        """Return calibrated probabilities (texts, labels): rows sum to 1, unless a text may have several labels."""
        return self.calibrated(self.logits(features))

    def calibrated(self, logits: Floats) -> Floats:
        """Return the calibrated probabilities of this head's logits (texts, labels)."""
        if self.thresholds is None:
            return softmax(logits, self.temperature)
        return sigmoid(
            logits / np.float32(self.temperature) + np.log(self.thresholds / (1 - self.thresholds))
        )

    def write(self, folder: Path) -> None:
        """Write head.safetensors into `folder`."""
        tensors = {f"{n}.weight": np.ascontiguousarray(layer.weight) for n, layer in enumerate(self.layers)}
        tensors |= {f"{n}.bias": np.ascontiguousarray(layer.bias) for n, layer in enumerate(self.layers)}
        tensors["temperature"] = np.array([self.temperature], np.float32)
        if self.thresholds is not None:
            tensors["thresholds"] = np.ascontiguousarray(self.thresholds, np.float32)
        activations = json.dumps([layer.activation for layer in self.layers])
        save_file(tensors, folder / FILE, {"format": str(FORMAT), "activations": activations})


def read_head(path: Path) -> Head:
    """Read what `Head.write` wrote. Raises EngineError, or UnknownFormat if a newer release wrote it."""
    try:
        metadata, tensors = _read(path)
        if int(metadata["format"]) > FORMAT:
            raise UnknownFormat(
                f"The head has format {metadata['format']}, and this release knows formats up to {FORMAT}: upgrade Fitloop."
            )
        layers = tuple(
            Layer(tensors[f"{n}.weight"], tensors[f"{n}.bias"], activation)
            for n, activation in enumerate(json.loads(metadata["activations"]))
        )
        check_layers(layers)
        return Head(layers, _temperature(tensors), _thresholds(tensors, layers))
    except (OSError, ValueError, KeyError, TypeError, IndexError, SafetensorError) as error:
        raise EngineError(f"The head of the version cannot be read: {safe_reason(error)}") from error


def _read(path: Path) -> tuple[dict[str, str], dict[str, Floats]]:
    with safe_open(path, "numpy") as file:
        return dict(file.metadata() or {}), {name: file.get_tensor(name) for name in file.offset_keys()}


def _thresholds(tensors: Mapping[str, Floats], layers: Sequence[Layer]) -> Floats | None:
    found = tensors.get("thresholds")
    if found is not None and (found.shape != layers[-1].bias.shape or not ((found > 0) & (found < 1)).all()):
        raise ValueError("its thresholds are not one probability for each label")
    return found


def _temperature(tensors: Mapping[str, Floats]) -> float:
    found = float(tensors["temperature"][0])
    if not (math.isfinite(found) and found > 0):
        raise ValueError(f"its temperature is {found}")
    return found
