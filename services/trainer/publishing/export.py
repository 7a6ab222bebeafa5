"""The model of record on disk, in its two layouts: fp32 safetensors and JSON, no code.

Every folder has tokenizer.json, whatever the base model came with, and a config.json that names the labels. The exported
model is loaded and compared with the one in memory before anything is published.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from safetensors.numpy import save_file
from torch import nn

from services.core.domain import Artefact
from services.core.errors import EngineError, StoreError
from services.engine.model import load_model
from services.trainer.data import RunInputs
from services.trainer.data.base_model import BaseModel
from services.trainer.data.features import Floats
from services.trainer.methods import Head, TrainedModel
from services.trainer.publishing.int8 import TORCH, attach_int8

_CHECKED_TEXTS: Final = 32
_TOLERANCE: Final = 1e-2
_MODULES: Final = (
    ("", "Transformer"),
    ("1_Pooling", "Pooling"),
    ("2_Normalize", "Normalize"),
    ("3_Dense", "Dense"),
)


def export_model(folder: Path, inputs: RunInputs, trained: TrainedModel, temperature: float) -> Artefact:
    """Write the model into `folder`, with its int8 engine if that is equal. Raises EngineError, StoreError.

    In a head the temperature is folded into the weights; for a classifier the engine applies it.
    """
    base, dataset = inputs.base, inputs.dataset
    try:
        if trained.head is None:
            layout, logits = "sequence-classification", trained.logits
            write_sequence_classification(folder, trained.model, base, dataset.labels)
        else:
            layout, divisor = "sentence-transformers", np.float32(temperature)
            temperature, logits = 1.0, trained.logits / divisor
            head = Head(trained.head.weight / divisor, trained.head.bias / divisor)
            write_sentence_transformers(folder, base, trained.model, head, dataset.labels)
        engine, reason = attach_int8(
            folder, layout, base.max_length, temperature, dataset.texts, logits=logits
        )
    except OSError as error:
        raise StoreError(
            f"The new version cannot be written to {folder}: {error.strerror or error}."
        ) from error
    artefact = Artefact(layout, engine, reason, base.max_length, temperature, base.padded)
    _check(folder, artefact, dataset.labels, dataset.texts, logits)
    return artefact


def write_sentence_transformers(
    folder: Path, base: BaseModel, encoder: nn.Module, head: Head, labels: Sequence[str]
) -> None:
    """Write Transformer, Pooling (mean), Normalize, Dense: sentence-transformers can load it, and it answers logits."""
    _write_model(folder, encoder, base, labels)
    dimension = head.weight.shape[1]
    modules = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (path, kind) in enumerate(_MODULES)
    ]
    _write_json(folder / "modules.json", modules)
    _write_json(
        folder / "sentence_bert_config.json", {"max_seq_length": base.max_length, "do_lower_case": False}
    )
    _write_json(
        folder / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": dimension,
            "pooling_mode_mean_tokens": True,
            "pooling_mode_cls_token": False,
        },
    )
    _write_json(folder / "2_Normalize" / "config.json", {})
    _write_json(
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
    """Write what AutoModelForSequenceClassification loads, with the labels' names in config.json."""
    _write_model(folder, model, base, labels)


def _write_model(folder: Path, model: Any, base: BaseModel, labels: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(folder)
    base.tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (base.source / name).is_file():
            shutil.copyfile(base.source / name, folder / name)


def _write_json(path: Path, document: object) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document, indent=1), encoding="utf-8")


def _check(
    folder: Path, artefact: Artefact, labels: Sequence[str], texts: Sequence[str], logits: Floats
) -> None:
    """Load the model as it will be served; an fp32 engine must answer as the model in memory did."""
    model = load_model(folder, artefact, tuple(labels), 1, 1)
    try:
        model.smoke_test()
        if artefact.engine == TORCH:
            expected = logits[:_CHECKED_TEXTS]
            found = model.logits_of(texts[:_CHECKED_TEXTS])
            worst = float(np.abs(found - expected).max(initial=0.0))
            if not worst <= _TOLERANCE:
                raise EngineError(
                    f"The exported model's logits differ from the trained model's (by {worst:.3g})."
                )
    finally:
        model.close()
