"""`finetune` and `lp-ft`: all weights of the encoder are trained, under one of two heads.

`finetune` is AutoModelForSequenceClassification: it works for every architecture that transformers can classify with, and its
new head needs more texts, or more epochs, than the probe. `lp-ft` starts from the linear probe's head on mean-pooled
features, so that the encoder moves little and keeps what it knew. Each fold starts from the probe of its own texts: a head
trained on the evaluated texts would make the evaluation too optimistic.
"""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from services.core.domain import Method
from services.engine.torch import encoder_of, forward
from services.trainer.data.base_check import mean_pooled
from services.trainer.data.base_model import load_classifier
from services.trainer.methods import Head, TrainedModel, TrainingContext, TrainingMethod
from services.trainer.methods.folds import Fold, fit_folds
from services.trainer.methods.linear_probe import fit_head, linear_probe


class Classifier(nn.Module):
    """(ids, mask) to logits, by a classifier of transformers."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(texts, tokens) twice, to (texts, labels)."""
        logits: torch.Tensor = forward(self.model, ids, mask).logits
        return logits

    def head(self) -> nn.Module:
        """Return the layers that the base model did not have: all but the encoder."""
        layers = [
            layer for name, layer in self.model.named_children() if name != self.model.base_model_prefix
        ]
        pooler = getattr(self.model.base_model, "pooler", None)
        return nn.ModuleList([*layers, *([pooler] if pooler is not None else [])])


class MeanPooled(nn.Module):
    """(ids, mask) to logits: mean of the encoder's last hidden states, normalised, one linear layer."""

    def __init__(self, encoder: nn.Module, head: Head) -> None:
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


def finetune(context: TrainingContext) -> TrainedModel:
    """Train a classifier with a new head."""

    def build(_: Fold) -> tuple[nn.Module, nn.Module]:
        model = Classifier(load_classifier(context.inputs.base, len(context.inputs.dataset.labels)))
        return model, model.head()

    trained = fit_folds(context, Method.FINETUNE, build)
    return replace(trained, model=cast("Classifier", trained.model).model)


def lp_ft(context: TrainingContext) -> TrainedModel:
    """Train a linear probe, then the encoder and the probe's head together."""

    def build(fold: Fold) -> tuple[nn.Module, nn.Module]:
        rows = np.flatnonzero(fold.training)
        start = fit_head(
            context.features.X[rows],
            context.inputs.dataset.targets[rows],
            len(context.inputs.dataset.labels),
            check=context.run.stop.check,
        )
        model = MeanPooled(copy.deepcopy(context.inputs.base.encoder), start)
        return model, model.head

    trained = fit_folds(context, Method.LP_FT, build)
    model = cast("MeanPooled", trained.model)
    head = Head(model.head.weight.detach().numpy(), model.head.bias.detach().numpy())
    return replace(trained, model=model.encoder, head=head)


METHODS: dict[Method, TrainingMethod] = {
    Method.LINEAR_PROBE: linear_probe,
    Method.FINETUNE: finetune,
    Method.LP_FT: lp_ft,
}
