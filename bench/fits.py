"""A fine-tune of a stock classifier by `services.trainer.methods.loop`, as the method `finetune` calls it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import transformers

from bench.labels import new_run
from bench.rig import base
from services.engine.tokenise import encode
from services.trainer.data.base_model import BaseModel, load_base
from services.trainer.methods import loop
from services.trainer.methods.checkpoints import Checkpoints
from services.trainer.methods.finetune import Classifier
from services.trainer.methods.hidden_states import Texts
from services.trainer.methods.plan import Recipe
from services.trainer.methods.precision import TORCH


@dataclass(frozen=True, slots=True)
class Material:
    """Input of a fine-tune: MiniLM, token ids, and label indices."""

    base: BaseModel
    ids: list[list[int]]
    targets: Any
    """(texts,) int64."""
    labels: int


def material(rows: Sequence[tuple[str, str]], intents: Sequence[str]) -> Material:
    found = load_base(str(base()), 256)
    ids = encode(found.tokenizer, [text for text, _ in rows])
    targets = np.array([intents.index(label) for _, label in rows], np.int64)
    return Material(found, ids, targets, len(intents))


def new_model(given: Material) -> Any:
    """Return the base model with a new [CLS] head."""
    auto = transformers.AutoModelForSequenceClassification
    return auto.from_pretrained(given.base.source, num_labels=given.labels)


def fit(
    given: Material, recipe: Recipe, texts: Sequence[str] = (), products: str = TORCH, device: str = "cpu"
) -> tuple[float, Any]:
    """Return the seconds of training, and the logits of these texts afterwards; `products` names a Precision."""
    torch.manual_seed(recipe.seed)
    model = Classifier(new_model(given)).to(device)
    with new_run([], ["a", "b"]) as own:
        checkpoint = Checkpoints(own.runs.store, own.name, 1, 3_600.0).fold("everything")
        begun = time.perf_counter()
        loop.train(
            model,
            model.head(),
            Texts(given.ids, given.base.pad_id),
            given.targets,
            recipe,
            checkpoint,
            own.progress,
            own.stop,
            products=products,
        )
        seconds = time.perf_counter() - begun
        asked = Texts(encode(given.base.tokenizer, texts), given.base.pad_id)
        return seconds, loop.logits_of(model, asked, given.labels, own.stop)
