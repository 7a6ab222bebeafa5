"""Versions that are whole models in one folder, as release 0.1.0 published them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from services.engine.head import Layer
from services.engine.pooling import Pooler
from services.trainer.data.base_model import BaseModel
from services.trainer.methods import Head
from services.trainer.publishing.int8 import convert

_MODULES = (("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize"), ("3_Dense", "Dense"))


def write_whole_probe(folder: Path, base: BaseModel, head: Head, labels: Sequence[str]) -> None:
    """Write a linear probe on mean-pooled, normalised features in sentence-transformers' layout, with its int8 engine."""
    folder.mkdir(parents=True, exist_ok=True)
    model: Any = base.encoder
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(folder)
    base.tokenizer.save(str(folder / "tokenizer.json"))
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(_MODULES)
    ]
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    _write(folder / "2_Normalize" / "config.json", {})
    _write(folder / "3_Dense" / "config.json", {"activation_function": "torch.nn.modules.linear.Identity"})
    tensors = {"linear.weight": head.weight, "linear.bias": head.bias}
    save_file(tensors, folder / "3_Dense" / "model.safetensors")
    convert(model, base.errors.architecture, folder / "ct2")
    write_ct2_head(Pooler("mean", normalize=True), (Layer(head.weight, head.bias),), folder / "ct2")


def write_ct2_head(pooler: Pooler, layers: Sequence[Layer], folder: Path) -> None:
    """Write head.json and head.safetensors of the int8 engine."""
    tensors = {f"{n}.weight": np.ascontiguousarray(layer.weight) for n, layer in enumerate(layers)}
    tensors |= {f"{n}.bias": np.ascontiguousarray(layer.bias) for n, layer in enumerate(layers)}
    save_file(tensors, folder / "head.safetensors")
    activations = [layer.activation for layer in layers]
    head = {"pooling": pooler.mode, "normalize": pooler.normalize, "activations": activations}
    _write(folder / "head.json", {"format": 1, **head})


def _write(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document), encoding="utf-8")
