"""The model of record on disk, in its two layouts: fp32 safetensors and JSON, no code.

`attach_int8` (services.trainer.publishing.int8) adds the engine that serves it. Every folder has tokenizer.json, whatever the base
came with, and a config.json that names the labels.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file
from torch import nn

from services.trainer.data.base_model import BaseModel
from services.trainer.publishing.int8 import attach_int8

__all__ = ["Head", "attach_int8", "write_sentence_transformers", "write_sequence_classification"]

_MODULES = (
    ("", "Transformer"),
    ("1_Pooling", "Pooling"),
    ("2_Normalize", "Normalize"),
    ("3_Dense", "Dense"),
)


@dataclass(frozen=True, slots=True)
class Head:
    """A linear layer on mean-pooled, normalised features; the temperature is folded in already."""

    weight: NDArray[np.float32]
    """(labels, d)"""
    bias: NDArray[np.float32]
    """(labels,)"""


def write_sentence_transformers(
    folder: Path, base: BaseModel, encoder: nn.Module, head: Head, labels: Sequence[str]
) -> None:
    """Transformer, Pooling (mean), Normalize, Dense: what sentence-transformers would load, and answers logits."""
    _write_model(folder, encoder, base, labels)
    dimension = head.weight.shape[1]
    _write(folder / "modules.json", [_module(n, *module) for n, module in enumerate(_MODULES)])
    _write(folder / "sentence_bert_config.json", {"max_seq_length": base.max_length, "do_lower_case": False})
    _write(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": dimension,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": False,
        },
    )
    _write(folder / "2_Normalize" / "config.json", {})
    _write(
        folder / "3_Dense" / "config.json",
        {
            "in_features": dimension,
            "out_features": len(labels),
            "bias": True,
            "activation_function": "torch.nn.modules.linear.Identity",
        },
    )
    tensors = {"linear.weight": head.weight, "linear.bias": head.bias}
    save_file(
        {name: np.ascontiguousarray(tensor, dtype=np.float32) for name, tensor in tensors.items()},
        folder / "3_Dense" / "model.safetensors",
    )


def write_sequence_classification(
    folder: Path, model: nn.Module, base: BaseModel, labels: Sequence[str]
) -> None:
    """What AutoModelForSequenceClassification loads, with the labels' names in config.json."""
    _write_model(folder, model, base, labels)


def _module(number: int, path: str, kind: str) -> dict[str, Any]:
    return {
        "idx": number,
        "name": str(number),
        "path": path,
        "type": f"sentence_transformers.models.{kind}",
    }


def _write_model(folder: Path, model: Any, base: BaseModel, labels: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(folder)
    base.tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (base.source / name).is_file():
            shutil.copyfile(base.source / name, folder / name)


def _write(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")
