"""Fine-tuning in parts: models that never saw some texts answer those; one more, trained on everything, is served.

A part that is done keeps its answers in the checkpoint, one in work its weights: a run that is ended goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from services.trainer.data.features import Flags, Floats, Rows, device_of
from services.trainer.data.split import fold_of, is_in_holdout
from services.trainer.methods.context import OutOfSampleLogits, TrainingContext
from services.trainer.methods.loop import logits_of, train
from services.trainer.methods.plan import CROSS_FIT, Recipe

if TYPE_CHECKING:
    from torch import nn

FOLDS = 5


@dataclass(frozen=True, slots=True)
class Fold:
    """One model to be trained."""

    name: str
    training: Flags
    """(texts,) what it is trained on."""
    evaluated: Flags
    """(texts,) what it answers out of sample."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The model that is to be served, and what was learnt about it."""

    model: nn.Module
    trained: Flags
    out_of_sample: OutOfSampleLogits
    logits: Floats
    """(texts, labels) of the served model on all texts, for the equality check."""


Build = Callable[[Fold], tuple["nn.Module", "nn.Module"]]
"""Makes the untrained model of a part, (ids, mask) to logits, and names its head."""


def folds_of(work: TrainingContext) -> tuple[list[Fold], Rows]:
    """The parts in order, the served one last, and for each text which of them judges it."""
    sides, n = work.dataset.split_keys, len(work.dataset.examples)
    everything = Fold("everything", np.ones(n, np.bool_), np.zeros(n, np.bool_))
    if work.plan.source == CROSS_FIT:
        folds = np.array([fold_of(key) for key in sides], np.int64)
        flags = [folds == fold for fold in range(FOLDS)]
        names = [f"fold-{fold + 1}" for fold in range(FOLDS)]
    else:
        flags = [np.array([is_in_holdout(key, n) for key in sides], np.bool_)]
        names, folds = ["holdout"], flags[0].astype(np.int64)
    judged = [
        Fold(name, ~inside, inside)
        for name, inside in zip(names, flags, strict=True)
        if inside.any() and not inside.all()
    ]
    return ([*judged, everything] if work.plan.refit or not judged else judged), folds


def fit_folds(work: TrainingContext, recipe: Recipe, build: Build) -> Trained:
    """Train every part, or take its answers from the checkpoint. Raises Preempted."""
    parts, folds = folds_of(work)
    n, labels = len(work.dataset.examples), len(work.dataset.labels)
    logits, learnable, judged = (
        np.zeros((n, labels), np.float32),
        np.zeros(n, np.bool_),
        np.zeros(n, np.bool_),
    )
    for part in parts[:-1]:
        found = work.checkpoints.finished(part.name)
        if found is None:
            found = _answers(work, _fit(work, recipe, part, build), part.evaluated)
            work.checkpoints.finish(part.name, found)
        logits[part.evaluated] = found
    served = _fit(work, recipe, parts[-1], build)
    everything = _answers(work, served, np.ones(n, np.bool_))
    logits[parts[-1].evaluated] = everything[parts[-1].evaluated]
    for part in parts:
        judged |= part.evaluated
        learnable[part.evaluated] = np.isin(
            work.dataset.targets[part.evaluated], work.dataset.targets[part.training]
        )
    rows = np.flatnonzero(judged)
    answers = OutOfSampleLogits(rows, logits[rows], learnable[rows], folds, work.plan.source)
    return Trained(served, parts[-1].training, answers, everything)


def _fit(work: TrainingContext, recipe: Recipe, part: Fold, build: Build) -> nn.Module:
    import torch

    torch.manual_seed(recipe.seed)
    model, head = build(part)
    model.to(device_of())
    recipe = replace(recipe, padded=work.base.padded)
    rows = np.flatnonzero(part.training)
    with work.base.errors.translate("be trained"):
        train(
            model,
            head,
            [work.features.ids[row] for row in rows],
            work.dataset.targets[rows],
            work.base.pad_id,
            recipe,
            work.checkpoints.fold(part.name),
            work.progress,
            work.stop,
            work.group,
        )
    return model


def _answers(work: TrainingContext, model: nn.Module, wanted: Flags) -> Floats:
    rows, labels, group = np.flatnonzero(wanted), len(work.dataset.labels), work.group
    ids = [work.features.ids[row] for row in rows[group.rank :: group.size]]
    found = np.zeros((len(rows), labels), np.float32)
    found[group.rank :: group.size] = logits_of(
        model, ids, labels, work.base.pad_id, work.stop, padded_rows=work.base.padded
    )
    return group.reduce(found)
