"""`finetune` and `lp-ft`: the encoder's weights are trained, under one of two heads.

`finetune` is AutoModelForSequenceClassification: it works for every architecture that transformers can classify with, and its
new head needs more texts, or more epochs, than the probe. `lp-ft` starts from the linear probe's head on the base model's
features, so that the encoder moves little and keeps what it knew; it trains the last layers alone if the plan says so. Each
fold starts from the probe of its own texts: a head trained on the evaluated texts would make the evaluation too optimistic.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from itertools import accumulate
from typing import Any, cast

import torch
from torch import nn

from services.core.domain import Method
from services.engine.tokenise import encode
from services.engine.torch import forward
from services.trainer.data.base_model import load_classifier
from services.trainer.data.features import Floats, device_of
from services.trainer.methods import Head, TrainedModel, TrainingContext
from services.trainer.methods.folds import Fold, fit_folds
from services.trainer.methods.hidden_states import Texts, compute_states, fits_in_cache
from services.trainer.methods.linear_probe import ProbeInputs, train_probe
from services.trainer.methods.loop import logits_of
from services.trainer.methods.one_vs_rest import fit_as_served
from services.trainer.methods.pooled import PooledClassifier
from services.trainer.methods.self_training import split_pool
from services.trainer.methods.set_calibration import with_thresholds
from services.trainer.methods.top_layers import TopLayers, freeze_lower


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


def finetune(context: TrainingContext) -> TrainedModel:
    """Train a classifier with a new head, on texts without the prompt, which belongs to the base model's features."""
    inputs, base = context.inputs, context.inputs.load_base()

    def build(_: Fold) -> tuple[nn.Module, nn.Module]:
        model = Classifier(load_classifier(base, len(inputs.dataset.labels)))
        return model, model.head()

    texts = Texts(encode(base.tokenizer, inputs.dataset.texts), base.pad_id)
    trained = fit_folds(context, Method.FINETUNE, texts, build)
    model = cast("Classifier", trained.model)
    unseen = _unseen(context, model, lambda given: encode(base.tokenizer, given))
    return with_thresholds(replace(trained, model=model.model, unseen=unseen), inputs.dataset)


def lp_ft(context: TrainingContext) -> TrainedModel:
    """Train a linear probe, then the encoder, or its last layers, and the probe's head together."""
    texts = _texts(context)

    def build(fold: Fold) -> tuple[nn.Module, nn.Module]:
        base = context.inputs.load_base()
        encoder, start = copy.deepcopy(base.encoder), _start(context, fold)
        if texts.states is not None:
            model: PooledClassifier = TopLayers(encoder, base.pooler, start)
        else:
            model = PooledClassifier(encoder, base.pooler, start)
            if context.plan.layers:
                freeze_lower(encoder)
        return model, model.head

    trained = fit_folds(context, Method.LP_FT, texts, build)
    model = cast("PooledClassifier", trained.model)
    head = Head(model.head.weight.detach().numpy(), model.head.bias.detach().numpy())
    encoder = model.join().cpu() if isinstance(model, TopLayers) else model.encoder
    whole = PooledClassifier(encoder, context.inputs.load_base().pooler, head)
    unseen = _unseen(context, whole, context.inputs.encoder.encoder.encode)
    return with_thresholds(replace(trained, model=encoder, head=head, unseen=unseen), context.inputs.dataset)


def _unseen(
    context: TrainingContext, model: nn.Module, encoded: Callable[[list[str]], list[list[int]]]
) -> Floats | None:
    """Return logits of unlabelled texts, as many as take no longer than an epoch's forward passes; None without any."""
    inputs = context.inputs
    labelled = set(inputs.dataset.texts)
    texts = [text for text in (inputs.pool.sample() if inputs.pool else ()) if text not in labelled]
    ids = encoded(texts) if texts else []
    count = sum(total <= context.features.tokens for total in accumulate(map(len, ids)))
    if not count:
        return None
    base = inputs.load_base()
    chosen, labels = Texts(ids[:count], base.pad_id), len(inputs.dataset.labels)
    found = logits_of(model.to(device_of()), chosen, labels, context.run.stop, padded_rows=base.padded)
    model.cpu()
    return found


def _start(context: TrainingContext, fold: Fold) -> Head:
    """Return the recipe's head for the fold's own texts, the names and, where a text has one label, the pool."""
    features, dataset, check = context.features, context.inputs.dataset, context.run.stop.check
    if dataset.multiple:
        return fit_as_served(features, dataset.chosen, fold.training, check)
    pool, _ = split_pool(context.pool_features)
    given, scale = ProbeInputs.of(features.X, dataset.targets, features.names, pool)
    return scale.fold(train_probe(given.without(~fold.training), check).head)


def _texts(context: TrainingContext) -> Texts:
    """Return the texts, with the hidden states of the layer below those that are trained, if these can be kept."""
    run, base, ids = context.run, context.inputs.load_base(), context.features.ids
    texts = Texts(ids, base.pad_id)
    if not context.plan.layers or not fits_in_cache(context.features.tokens, base.width):
        return texts
    run.progress.stage("features")
    with base.errors.translate("be trained"):
        return replace(
            texts, states=compute_states(base.encoder, ids, base.pad_id, run.stop, padded=base.padded)
        )
