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
from services.trainer.data.split import FINETUNE_FOLDS, fold_of, is_in_holdout
from services.trainer.methods import OutOfSampleLogits, TrainedModel, TrainingContext
from services.trainer.methods.hidden_states import Texts
from services.trainer.methods.loop import Targets, logits_of, train
from services.trainer.methods.plan import CROSS_FIT, Recipe, effective_parameters, recipe_for

if TYPE_CHECKING:
    from torch import nn

    from services.trainer.data.dataset import Dataset


@dataclass(frozen=True, slots=True)
class Fold:
    """One model to be trained."""

    name: str
    training: Flags
    """(texts,) what it is trained on."""
    evaluated: Flags
    """(texts,) what it answers out of sample."""


Build = Callable[[Fold], tuple["nn.Module", "nn.Module"]]
"""Returns the untrained model of a fold, a batch of texts to logits, and its head."""


def folds_of(context: TrainingContext) -> tuple[list[Fold], Rows]:
    """Return the folds in order, the one that is served last, and for each text which fold evaluates it."""
    keys, n = context.inputs.dataset.split_keys, len(context.inputs.dataset.examples)
    everything = Fold("everything", np.ones(n, np.bool_), np.zeros(n, np.bool_))
    if context.plan.source == CROSS_FIT:
        numbers = np.array([fold_of(key, FINETUNE_FOLDS) for key in keys], np.int64)
        flags = [numbers == fold for fold in range(FINETUNE_FOLDS)]
        names = [f"fold-{fold + 1}" for fold in range(FINETUNE_FOLDS)]
    else:
        flags = [np.array([is_in_holdout(key, n) for key in keys], np.bool_)]
        names, numbers = ["holdout"], flags[0].astype(np.int64)
    evaluated = [
        Fold(name, ~inside, inside)
        for name, inside in zip(names, flags, strict=True)
        if inside.any() and not inside.all()
    ]
    return ([*evaluated, everything] if context.plan.refit or not evaluated else evaluated), numbers


def fit_folds(context: TrainingContext, method: Method, texts: Texts, build: Build) -> TrainedModel:
    """Train every fold, or read its logits from the checkpoint; the model is what `build` returns. Raises Preempted."""
    from services.trainer.methods.precision import choose_precision

    n, labels = len(context.inputs.dataset.examples), len(context.inputs.dataset.labels)
    base = context.inputs.load_base()
    recipe = recipe_for(method, n, base.width, context.run.request.parameters, context.plan.layers)
    precision = choose_precision(base.encoder)
    folds, numbers = folds_of(context)
    logits, learnable, evaluated = (
        np.zeros((n, labels), np.float32),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
    )
    for fold in folds[:-1]:
        found = context.checkpoints.finished(fold.name)
        if found is None:
            model = _fit(context, texts, recipe, fold, build, precision.name)
            found = _logits(context, texts, model, fold.evaluated)
            context.checkpoints.finish(fold.name, found)
        logits[fold.evaluated] = found
    served = _fit(context, texts, recipe, folds[-1], build, precision.name)
    all_logits = _logits(context, texts, served, np.ones(n, np.bool_))
    logits[folds[-1].evaluated] = all_logits[folds[-1].evaluated]
    for fold in folds:
        evaluated |= fold.evaluated
        learnable[fold.evaluated] = _learnable(context.inputs.dataset, fold)
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
        precision=str(precision),
        layers=context.plan.layers,
    )


def targets_of(dataset: Dataset) -> Targets:
    """Return what the loop is to learn."""
    return dataset.chosen.astype(np.float32) if dataset.multiple else dataset.targets


def _learnable(dataset: Dataset, fold: Fold) -> Flags:
    """Return (evaluated,) whether the fold's model has an example of the text's label; of several labels each is a question of its own."""
    if dataset.multiple:
        return np.ones(int(fold.evaluated.sum()), np.bool_)
    return np.isin(dataset.targets[fold.evaluated], dataset.targets[fold.training])


def _fit(
    context: TrainingContext, texts: Texts, recipe: Recipe, fold: Fold, build: Build, products: str
) -> nn.Module:
    import torch

    torch.manual_seed(recipe.seed)
    model, head = build(fold)
    model.to(device_of())
    rows, base = np.flatnonzero(fold.training), context.inputs.load_base()
    with base.errors.translate("be trained"):
        train(
            model,
            head,
            texts.some(rows.tolist()),
            targets_of(context.inputs.dataset)[rows],
            replace(recipe, padded=base.padded),
            context.checkpoints.fold(fold.name),
            context.run.progress,
            context.run.stop,
            context.run.group,
            products,
        )
    return model


def _logits(context: TrainingContext, texts: Texts, model: nn.Module, wanted: Flags) -> Floats:
    """Compute logits of the wanted texts, each rank a share of them."""
    rows, labels, group = np.flatnonzero(wanted), len(context.inputs.dataset.labels), context.run.group
    mine, padded = texts.some(rows[group.rank :: group.size].tolist()), context.inputs.load_base().padded
    found = np.zeros((len(rows), labels), np.float32)
    found[group.rank :: group.size] = logits_of(model, mine, labels, context.run.stop, padded_rows=padded)
    return group.reduce(found)
