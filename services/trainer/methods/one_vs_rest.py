"""`linear-probe` where a text may have several labels, or none: one logistic regression for each label.

The names of labels are positive examples of theirs, as far as the labelled texts agree with them; unlabelled texts are no
examples: self-training on them helped none and harmed some. Out-of-fold logits give calibration and thresholds, which are folded
into the head: a logit >= 0 is a label that is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.core.domain import Method
from services.core.settings.training import available_cores
from services.engine.compute import sigmoid
from services.trainer.data.features import Features, Flags, Floats, Rows
from services.trainer.data.pool import MAX_TEXTS
from services.trainer.data.split import FOLDS, fold_of
from services.trainer.methods import Head, OutOfSampleLogits, TrainedModel, TrainingContext
from services.trainer.methods.binary_fits import fit_each
from services.trainer.methods.cross_fitting import fits_by_fold
from services.trainer.methods.names import FULL_TRUST, MIN_TRUST, name_features
from services.trainer.methods.plan import CROSS_FIT
from services.trainer.methods.scaling import Scale
from services.trainer.methods.thresholds import apply_by_fold, choose

_DEVIATION: Final = 10.0
"""Of the prior of the slope of names, around FULL_TRUST."""
_HALVINGS: Final = 10
NAME_WEIGHT: Final = 10.0
"""Positive examples that a fully trusted name counts for: labels have few, and thousands of pairs that are not theirs."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A head for the encoder's own features, with its out-of-fold logits: what is chosen has one >= 0."""

    head: Head
    probabilities: Floats
    """(labels,) thresholds as probabilities."""
    logits: Floats
    """(evaluated, labels), with calibration and thresholds of the other folds."""
    rows: Rows
    """(evaluated,) the texts that have out-of-fold logits."""


def one_vs_rest(context: TrainingContext) -> TrainedModel:
    """Train on everything, and answer each text by a head that was not trained on its fold."""
    dataset, features, progress = context.inputs.dataset, context.features, context.run.progress
    folds = np.array([fold_of(key) for key in dataset.split_keys], np.int64)
    progress.stage("fitting", steps=FOLDS + 1)
    found = fit_by_folds(
        features, dataset.chosen, folds, context.run.stop.check, progress.step, available_cores()
    )
    learnable = np.ones(len(found.rows), np.bool_)
    return TrainedModel(
        method=Method.LINEAR_PROBE,
        model=None,
        head=found.head,
        logits=_logits(found.head, features.X),
        out_of_sample=OutOfSampleLogits(found.rows, found.logits, learnable, folds, CROSS_FIT),
        trained=np.ones(len(folds), np.bool_),
        parameters=context.run.request.parameters,
        unseen=_logits(found.head, features.pool[:MAX_TEXTS]) if len(features.pool) else None,
        thresholds=found.probabilities,
    )


def fit_by_folds(
    features: Features,
    chosen: Flags,
    folds: Rows,
    check: Callable[[], None] = lambda: None,
    step: Callable[[int], None] = lambda _: None,
    threads: int = 1,
) -> Fitted:
    """Fit everything, then each fold anew, then calibration and thresholds; `step` is told how many fits are done."""
    scale = Scale.of(features.X, features.pool)
    X, N = scale.apply(features.X), name_features(features.names)
    head = fit_with_names(X, chosen, N, check)
    step(1)
    logits, evaluated = np.zeros(chosen.shape, np.float32), np.zeros(len(X), np.bool_)

    def without(inside: Flags) -> Head:
        return fit_with_names(X[~inside], chosen[~inside], N, check)

    for inside, own in fits_by_fold(folds, without, lambda done: step(done + 1), threads):
        logits[inside] = _logits(own, X[inside])
        evaluated |= inside
    rows = np.flatnonzero(evaluated)
    found = choose(logits[rows], chosen[rows])
    honest = apply_by_fold(logits[rows], chosen[rows], folds[rows])
    return Fitted(scale.fold(found.fold(head)), found.probabilities, honest, rows)


def _logits(head: Head, X: Floats) -> Floats:
    return np.asarray(X @ head.weight.T + head.bias, np.float32)


def fit_as_served(
    features: Features, chosen: Flags, training: Flags, check: Callable[[], None] = lambda: None
) -> Head:
    """Return the head of some of the texts (n,), for features as the encoder gives them: not calibrated, and without thresholds."""
    scale = Scale.of(features.X, features.pool)
    X, N = scale.apply(features.X[training]), name_features(features.names)
    return scale.fold(fit_with_names(X, chosen[training], N, check))


def fit_with_names(X: Floats, chosen: Flags, N: Floats, check: Callable[[], None] = lambda: None) -> Head:
    """Fit scaled texts (n, d) with the labels `chosen` (n, labels), and the names N (labels, d) as far as they are to be trusted."""
    weight = NAME_WEIGHT * trust_each(X, chosen, N) if len(N) else 0.0
    if not weight:
        return fit_each(X, chosen, np.ones(chosen.shape, np.float32), check)
    labels = len(N)
    weights = np.vstack(
        [np.ones(chosen.shape, np.float32), np.float32(weight) * np.eye(labels, dtype=np.float32)]
    )
    weights[len(X) :][:, ~N.any(axis=1)] = 0  # a name that is like all others says nothing
    return fit_each(np.vstack([X, N]), np.vstack([chosen, np.eye(labels, dtype=np.bool_)]), weights, check)


def trust_each(X: Floats, chosen: Flags, N: Floats) -> float:
    """Return the weight of a name, 0 to 1: how steeply cosines of scaled texts (n, d) to names tell which labels they have.

    The slope s is the one of most likelihood for P(k | x) = sigmoid(s (⟨x, N_k⟩ - mean) + logit of k's share), with a normal
    prior; it is concave in s.
    """
    if not len(X) or not N.any():
        return 1.0 if N.any() else 0.0
    cosines = X @ N.T
    cosines -= cosines.mean(axis=0)
    shares = (chosen.sum(axis=0) + 0.5) / (len(X) + 1)
    logits = np.log(shares / (1 - shares)).astype(np.float32)

    def rises(slope: float) -> bool:
        residuals = chosen - sigmoid(np.float32(slope) * cosines + logits)
        return float((residuals * cosines).sum(dtype=np.float64)) - (slope - FULL_TRUST) / _DEVIATION**2 > 0

    if rises(FULL_TRUST):  # a steeper slope is trusted no more
        return 1.0
    low, high = 0.0, FULL_TRUST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if rises(middle) else (low, middle)
    found = high / FULL_TRUST
    return found if found >= MIN_TRUST else 0.0
