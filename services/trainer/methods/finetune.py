"""`finetune`: AutoModelForSequenceClassification, all weights trained; what LEARNING_RATE and its like are obeyed in.

Works for every architecture that transformers can classify with. The head starts from nothing, so that it needs more
texts, or more passes, than the probe.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from services.core.domain import Method
from services.engine.torch import forward
from services.trainer.data.base_model import load_classifier
from services.trainer.export import write_sequence_classification
from services.trainer.methods.parts import Fold, fit_folds
from services.trainer.recipe import effective_parameters, recipe_for
from services.trainer.work import TrainedModel, TrainingContext, Written


class Classifier(nn.Module):
    """(ids, mask) to logits."""

    def __init__(self, model: Any) -> None:
        """Wrap a model of transformers."""
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(texts, tokens) twice, to (texts, labels)."""
        logits: torch.Tensor = forward(self.model, ids, mask).logits
        return logits

    def head(self) -> nn.Module:
        """What was not there in the base: everything beside the encoder."""
        parts = [part for name, part in self.model.named_children() if name != self.model.base_model_prefix]
        pooler = getattr(self.model.base_model, "pooler", None)
        return nn.ModuleList([*parts, *([pooler] if pooler is not None else [])])


def finetune(work: TrainingContext) -> TrainedModel:
    """See MakesModel."""
    labels = len(work.dataset.labels)
    recipe = recipe_for(Method.FINETUNE, len(work.dataset.examples), work.base.width, work.parameters)

    def build(_: Fold) -> tuple[nn.Module, nn.Module]:
        model = Classifier(load_classifier(work.base, labels))
        return model, model.head()

    found = fit_folds(work, recipe, build)

    def write(folder: Path, temperature: float) -> Written:
        model = found.model.cpu()
        assert isinstance(model, Classifier)  # noqa: S101 - what `build` made
        write_sequence_classification(folder, model.model, work.base, work.dataset.labels)
        return Written(temperature, found.logits)

    return TrainedModel(
        method=Method.FINETUNE,
        layout="sequence-classification",
        out_of_sample=found.out_of_sample,
        trained=found.trained,
        write=write,
        parameters=effective_parameters(work.parameters, recipe),
        resumed_from=work.checkpoints.resumed_from,
    )
