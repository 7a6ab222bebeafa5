"""Versions that are whole models, encoder and head in one folder: those of 0.1.0, and of architectures with heads of their own.

Their folders are split as they are read: what pools, and what follows it. Two layouts have modules to split, the int8 engine's
(head.json and head.safetensors in `ct2/`) and sentence-transformers'. The logits of `sequence-classification` come out whole.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from services.core.errors import EngineError
from services.core.redaction import safe_reason
from services.engine.head import Layer, check_layers
from services.engine.pooling import MODES, Pooler

FORMAT = 1
PooledHead = tuple[Pooler, tuple[Layer, ...]]
"""How features are pooled, and the layers from there to the logits."""


def read_ct2_head(folder: Path) -> PooledHead:
    """Read head.json and head.safetensors of 0.1.0. Raises EngineError."""
    try:
        document = json.loads((folder / "head.json").read_bytes())
        tensors = load_file(folder / "head.safetensors")
        layers = tuple(
            Layer(tensors[f"{n}.weight"], tensors[f"{n}.bias"], activation)
            for n, activation in enumerate(document["activations"])
        )
        return _checked(Pooler(document["pooling"], document["normalize"]), layers, document["format"])
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise EngineError(
            f"The classification head of the model cannot be read: {safe_reason(error)}"
        ) from error


def read_sentence_transformers(folder: Path) -> PooledHead:
    """Read the modules after the Transformer; its last Dense layers are the head. Raises EngineError for unknown ones."""
    try:
        modules = json.loads((folder / "modules.json").read_bytes())
        kinds = [(str(module["type"]).rpartition(".")[2], folder / module["path"]) for module in modules]
        pooling = _pooling([path for kind, path in kinds if kind == "Pooling"])
        layers = tuple(read_dense(path) for kind, path in kinds if kind == "Dense")
        return _checked(Pooler(pooling, any(kind == "Normalize" for kind, _ in kinds)), layers)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise EngineError(
            f"The sentence-transformers modules of the model cannot be read: {safe_reason(error)}"
        ) from error


def read_dense(folder: Path) -> Layer:
    """Read sentence-transformers' Dense module. Raises OSError, KeyError, ValueError, SafetensorError."""
    config = json.loads((folder / "config.json").read_bytes())
    tensors = load_file(folder / "model.safetensors")
    activation = str(config["activation_function"]).rpartition(".")[2].lower().replace("identity", "none")
    weight = tensors["linear.weight"]
    return Layer(weight, tensors.get("linear.bias", np.zeros(len(weight), np.float32)), activation)


def _pooling(paths: Sequence[Path]) -> str:
    config: dict[str, Any] = json.loads((paths[0] / "config.json").read_bytes()) if paths else {}
    if config.get("pooling_mode_mean_tokens"):
        return "mean"
    if config.get("pooling_mode_cls_token"):
        return "cls"
    raise ValueError("its pooling is neither mean nor cls")


def _checked(pooler: Pooler, layers: tuple[Layer, ...], number: int = FORMAT) -> PooledHead:
    if number > FORMAT:
        raise ValueError(f"its format {number} is newer than {FORMAT}: upgrade Fitloop")
    if pooler.mode not in MODES:
        raise ValueError(f"unknown pooling {pooler.mode!r}")
    if not layers:
        raise ValueError("it has no output layer")
    check_layers(layers)
    return pooler, layers
