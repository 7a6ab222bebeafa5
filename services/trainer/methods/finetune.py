"""`finetune`: AutoModelForSequenceClassification, all weights trained; what LEARNING_RATE and its like are obeyed in.

Works for every architecture that transformers can classify with. The head starts from nothing, so that it needs more
texts, or more passes, than the probe.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from services.core.domain import Method
from services.engine.torch import encoder_of, forward
from services.trainer.data.base_model import load_classifier
from services.trainer.data.features import mean_pooled
from services.trainer.methods.context import TrainedModel, TrainingContext, Written
from services.trainer.methods.folds import Fold, fit_folds
from services.trainer.methods.linear_probe import fit_head
from services.trainer.methods.plan import effective_parameters, recipe_for
from services.trainer.publishing.export import (
    Head,
    write_sentence_transformers,
    write_sequence_classification,
)


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


class MeanPooled(nn.Module):
    """(ids, mask) to logits: mean of the encoder's last hidden states, normalised, one linear layer."""

    def __init__(self, encoder: nn.Module, head: Head) -> None:
        """Both are trained on from where they are."""
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(head.weight.shape[1], head.weight.shape[0])
        self.head.weight.data = torch.from_numpy(head.weight.copy())
        self.head.bias.data = torch.from_numpy(head.bias.copy())

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(texts, tokens) twice, to (texts, labels)."""
        hidden = forward(encoder_of(self.encoder), ids, mask).last_hidden_state
        logits: torch.Tensor = self.head(mean_pooled(hidden, mask))
        return logits


def lp_ft(work: TrainingContext) -> TrainedModel:
    """See MakesModel."""
    recipe = recipe_for(Method.LP_FT, len(work.dataset.examples), work.base.width, work.parameters)

    def build(part: Fold) -> tuple[nn.Module, nn.Module]:
        rows = np.flatnonzero(part.training)
        start = fit_head(
            work.features.X[rows],
            work.dataset.targets[rows],
            len(work.dataset.labels),
            check=work.stop.check,
        )
        model = MeanPooled(copy.deepcopy(work.base.encoder), start)
        return model, model.head

    found = fit_folds(work, recipe, build)

    def write(folder: Path, temperature: float) -> Written:
        model = found.model.cpu()
        assert isinstance(model, MeanPooled)  # noqa: S101 - what `build` made
        divisor = np.float32(temperature)
        weight = np.asarray(model.head.weight.detach().numpy() / divisor, np.float32)
        bias = np.asarray(model.head.bias.detach().numpy() / divisor, np.float32)
        write_sentence_transformers(folder, work.base, model.encoder, Head(weight, bias), work.dataset.labels)
        return Written(1.0, found.logits / divisor)

    return TrainedModel(
        method=Method.LP_FT,
        layout="sentence-transformers",
        out_of_sample=found.out_of_sample,
        trained=found.trained,
        write=write,
        parameters=effective_parameters(work.parameters, recipe),
        resumed_from=work.checkpoints.resumed_from,
    )
