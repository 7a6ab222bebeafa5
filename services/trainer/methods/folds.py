"""Fine-tuning by folds: models that were not trained on some texts answer those; one more, trained on everything, is served.

A finished fold keeps its logits in the checkpoint, an unfinished one its weights: a run that was ended resumes where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from services.core.domain import Method
from services.trainer.data.features import Flags, Floats, Rows, device_of
from services.trainer.data.split import FOLDS, fold_of, is_in_holdout
from services.trainer.methods import OutOfSampleLogits, TrainedModel, TrainingContext
from services.trainer.methods.loop import logits_of, train
from services.trainer.methods.plan import CROSS_FIT, Recipe, effective_parameters, recipe_for

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Fold:
    """One model to be trained."""

    name: str
    training: Flags
    """(texts,) what it is trained on."""
    evaluated: Flags
    """(texts,) what it answers out of sample."""


Build = Callable[[Fold], tuple["nn.Module", "nn.Module"]]
"""Returns the untrained model of a fold, (ids, mask) to logits, and its head."""


def folds_of(context: TrainingContext) -> tuple[list[Fold], Rows]:
    """Return the folds in order, the one that is served last, and for each text which fold evaluates it."""
    keys, n = context.inputs.dataset.split_keys, len(context.inputs.dataset.examples)
    everything = Fold("everything", np.ones(n, np.bool_), np.zeros(n, np.bool_))
    if context.plan.source == CROSS_FIT:
        numbers = np.array([fold_of(key) for key in keys], np.int64)
        flags = [numbers == fold for fold in range(FOLDS)]
        names = [f"fold-{fold + 1}" for fold in range(FOLDS)]
    else:
        flags = [np.array([is_in_holdout(key, n) for key in keys], np.bool_)]
        names, numbers = ["holdout"], flags[0].astype(np.int64)
    evaluated = [
        Fold(name, ~inside, inside)
        for name, inside in zip(names, flags, strict=True)
        if inside.any() and not inside.all()
    ]
    return ([*evaluated, everything] if context.plan.refit or not evaluated else evaluated), numbers


def fit_folds(context: TrainingContext, method: Method, build: Build) -> TrainedModel:
    """Train every fold, or read its logits from the checkpoint; the model is what `build` returns. Raises Preempted."""
    n, labels = len(context.inputs.dataset.examples), len(context.inputs.dataset.labels)
    recipe = recipe_for(method, n, context.inputs.base.width, context.run.request.parameters)
    folds, numbers = folds_of(context)
    logits, learnable, evaluated = (
        np.zeros((n, labels), np.float32),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
    )
    for fold in folds[:-1]:
        found = context.checkpoints.finished(fold.name)
        if found is None:
            found = _logits(context, _fit(context, recipe, fold, build), fold.evaluated)
            context.checkpoints.finish(fold.name, found)
        logits[fold.evaluated] = found
    served = _fit(context, recipe, folds[-1], build)
    all_logits = _logits(context, served, np.ones(n, np.bool_))
    logits[folds[-1].evaluated] = all_logits[folds[-1].evaluated]
    for fold in folds:
        evaluated |= fold.evaluated
        learnable[fold.evaluated] = np.isin(
            context.inputs.dataset.targets[fold.evaluated], context.inputs.dataset.targets[fold.training]
        )
    rows = np.flatnonzero(evaluated)
    return TrainedModel(
        method=method,
        model=served.cpu(),
        head=None,
        logits=all_logits,
        out_of_sample=OutOfSampleLogits(rows, logits[rows], learnable[rows], numbers, context.plan.source),
        trained=folds[-1].training,
        parameters=effective_parameters(context.run.request.parameters, recipe),
        resumed_from=context.checkpoints.resumed_from,
    )


def _fit(context: TrainingContext, recipe: Recipe, fold: Fold, build: Build) -> nn.Module:
    import torch

    torch.manual_seed(recipe.seed)
    model, head = build(fold)
    model.to(device_of())
    rows = np.flatnonzero(fold.training)
    with context.inputs.base.errors.translate("be trained"):
        train(
            model,
            head,
            [context.features.ids[row] for row in rows],
            context.inputs.dataset.targets[rows],
            context.inputs.base.pad_id,
            replace(recipe, padded=context.inputs.base.padded),
            context.checkpoints.fold(fold.name),
            context.run.progress,
            context.run.stop,
            context.run.group,
        )
    return model


def _logits(context: TrainingContext, model: nn.Module, wanted: Flags) -> Floats:
    """Compute logits of the wanted texts, each rank a share of them."""
    rows, labels, group = np.flatnonzero(wanted), len(context.inputs.dataset.labels), context.run.group
    ids = [context.features.ids[row] for row in rows[group.rank :: group.size]]
    found = np.zeros((len(rows), labels), np.float32)
    found[group.rank :: group.size] = logits_of(
        model,
        ids,
        labels,
        context.inputs.base.pad_id,
        context.run.stop,
        padded_rows=context.inputs.base.padded,
    )
    return group.reduce(found)
