"""A fine-tuned model to an encoder of its own and a head, or, where its classifier is no stack of dense layers, to a whole model."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from services.core.domain import Artefact, Pooling
from services.core.registry import Registry
from services.engine.head import Head, Layer
from services.engine.model import CLASSIFIER, load_whole_model
from services.trainer.data import RunInputs
from services.trainer.data.base_model import BaseModel
from services.trainer.data.modules import Modules
from services.trainer.evaluation import Candidate
from services.trainer.methods import Choice, TrainedModel
from services.trainer.methods import Head as LinearHead
from services.trainer.publishing.encoder import Probe, publish_encoder
from services.trainer.publishing.int8 import KINDS, TORCH, head_of
from services.trainer.publishing.made import MadeVersion, check_logits, made_of_head

_CHECKED_TEXTS: Final = 32


@dataclass(frozen=True, slots=True)
class Parts:
    """A trained model, divided."""

    encoder: BaseModel
    """The base model with trained weights, without a digest yet."""
    layers: tuple[Layer, ...]
    """From its features to logits."""


def write_trained(folder: Path, registry: Registry, inputs: RunInputs, candidate: Candidate) -> MadeVersion:
    """Publish the encoder and write its head into `folder`, or write a whole model. Raises EngineError, StoreError, OSError."""
    trained, base = candidate.trained, inputs.load_base()
    parts = divide(base, trained)
    if parts is None:
        return _write_whole(folder, inputs, candidate)
    head = Head(parts.layers, candidate.temperature, trained.thresholds)
    probe = Probe(inputs.dataset.texts, head, trained.logits)
    encoder = publish_encoder(registry.store, parts.encoder, probe).manifest
    head.write(folder)
    return made_of_head(encoder)


def divide(base: BaseModel, trained: TrainedModel) -> Parts | None:
    """Divide a trained model into encoder and head; None if its classifier is more than dense layers."""
    model: Any = trained.model
    if trained.head is not None:
        layers = (Layer(trained.head.weight, trained.head.bias),)
        return Parts(replace(base, encoder=model, digest=""), layers)
    if base.errors.architecture not in KINDS:
        return None
    modules = Modules(Pooling("cls", normalize=False))
    encoder = replace(base, encoder=model.base_model, modules=modules, digest="")
    return Parts(encoder, _chosen(head_of(base.errors.architecture, model), trained.choice))


def _chosen(layers: tuple[Layer, ...], choice: Choice | None) -> tuple[Layer, ...]:
    """Fold calibration and thresholds into the last layer."""
    if choice is None:
        return layers
    *first, last = layers
    folded = choice.fold(LinearHead(last.weight, last.bias))
    return (*first, replace(last, weight=folded.weight, bias=folded.bias))


def write_classifier(
    folder: Path, model: Any, base: BaseModel, labels: Sequence[str], *, multi_label: bool = False
) -> None:
    """Write what AutoModelForSequenceClassification loads, with the labels' names in config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    if multi_label:
        model.config.problem_type = "multi_label_classification"
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: number for number, label in enumerate(labels)}
    model.save_pretrained(folder)
    base.tokenizer.save(str(folder / "tokenizer.json"))
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        if (base.source / name).is_file():
            shutil.copyfile(base.source / name, folder / name)


def _write_choice(folder: Path, choice: Choice) -> None:
    """Write head.safetensors: one layer from the classifier's logits to calibrated ones less the thresholds.

    Not every architecture's last layer has a bias that could take the thresholds.
    """
    outputs = len(choice.thresholds)
    zero = np.zeros(outputs, np.float32)
    layer = Layer(np.float32(choice.slope) * np.eye(outputs, dtype=np.float32), choice.apply(zero))
    Head((layer,), 1.0, choice.probabilities).write(folder)


def _write_whole(folder: Path, inputs: RunInputs, candidate: Candidate) -> MadeVersion:
    base, dataset, trained = inputs.load_base(), inputs.dataset, candidate.trained
    write_classifier(folder, trained.model, base, dataset.labels, multi_label=dataset.multiple)
    if trained.choice is not None:
        _write_choice(folder, trained.choice)
    reason = f"{base.errors.architecture} has a classifier of its own and no int8 engine yet: served in fp32."
    artefact = Artefact(CLASSIFIER, TORCH, reason, base.max_length, candidate.temperature, base.padded)
    model = load_whole_model(folder, artefact, dataset.labels, 1, 1)
    try:
        model.smoke_test()
        check_logits(model.logits_of(dataset.texts[:_CHECKED_TEXTS]), trained.logits[:_CHECKED_TEXTS])
    finally:
        model.close()
    return MadeVersion(artefact)
