"""A fine-tune where a text may have several labels, or none: calibration and thresholds from its answers out of sample.

They are those of the probe. The served model has them of all these answers; the answers themselves, by which it is evaluated, have
those of the other folds' texts, also where they are a holdout.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from services.trainer.data.dataset import Dataset
from services.trainer.data.split import FINETUNE_FOLDS, fold_of
from services.trainer.methods import TrainedModel
from services.trainer.methods.thresholds import apply_by_fold, choose


def with_thresholds(trained: TrainedModel, dataset: Dataset) -> TrainedModel:
    """Calibrate and shift all logits, so that what is chosen has one >= 0; return the model as it is where a text has one label."""
    if not dataset.multiple:
        return trained
    found = trained.out_of_sample
    chosen = dataset.chosen[found.rows]
    folds = np.array([fold_of(dataset.split_keys[row], FINETUNE_FOLDS) for row in found.rows], np.int64)
    choice = choose(found.logits, chosen)
    return replace(
        trained,
        head=None if trained.head is None else choice.fold(trained.head),
        choice=choice if trained.head is None else None,
        logits=choice.apply(trained.logits),
        unseen=None if trained.unseen is None else choice.apply(trained.unseen),
        out_of_sample=replace(found, logits=apply_by_fold(found.logits, chosen, folds)),
        thresholds=choice.probabilities,
    )
