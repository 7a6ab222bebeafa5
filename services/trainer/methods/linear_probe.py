"""`linear-probe`: a linear head on the frozen encoder's features, from labels, the labels' names and unlabelled texts.

Logistic regression of the labelled texts and, weighted by their estimated reliability, of the names; then self-training on the pool. All of
it is repeated for each of ten folds without the fold's labels and texts, which gives the answers out of sample. Each step is a
module of its own: `scaling`, `typicality`, `names`, `fitting`, `teacher`, `self_training`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.core.domain import Method
from services.core.settings.training import available_cores
from services.trainer.data.features import Flags, Floats, Rows
from services.trainer.data.split import FOLDS, fold_of
from services.trainer.methods import Head, OutOfSampleLogits, TrainedModel, TrainingContext
from services.trainer.methods.cross_fitting import fits_by_fold
from services.trainer.methods.fitting import WeightedRows, fit
from services.trainer.methods.names import name_features, name_weights
from services.trainer.methods.plan import CROSS_FIT
from services.trainer.methods.scaling import Scale
from services.trainer.methods.self_training import TOLERANCE, is_worthwhile, self_train, split_pool
from services.trainer.methods.teacher import teacher_of
from services.trainer.methods.typicality import typicality

FOLD_TOLERANCE: Final = 1e-3
"""Of the folds' fits, which takes half the time: their answers are as often right as those of exact fits."""


@dataclass(frozen=True, slots=True)
class ProbeInputs:
    """What a probe is made of; all features are scaled."""

    X: Floats
    """(n, d) of the labelled texts."""
    targets: Rows
    """(n,) indices of labels."""
    N: Floats
    """(labels, d) of the names, from `name_features`."""
    pool: Floats
    """(m, d) of the unlabelled texts that it is trained on."""

    @classmethod
    def of(cls, X: Floats, targets: Rows, names: Floats, pool: Floats) -> tuple[ProbeInputs, Scale]:
        """Scale an encoder's features of labelled texts and of the pool; return the scale as well."""
        scale = Scale.of(X, pool)
        return cls(scale.apply(X), targets, name_features(names), scale.apply(pool)), scale

    def without(self, excluded: Flags) -> ProbeInputs:
        """Leave out some labelled texts."""
        return ProbeInputs(self.X[~excluded], self.targets[~excluded], self.N, self.pool)


@dataclass(frozen=True, slots=True)
class Probe:
    """A head for scaled features."""

    head: Head
    known: Flags
    """(labels,) which labels had an example or a trusted name."""


def train_probe(
    given: ProbeInputs, check: Callable[[], None] = lambda: None, tolerance: float = TOLERANCE
) -> Probe:
    """Fit labelled texts and names, then the pool as well if it is large enough."""
    typical = typicality(given.X, given.N, given.pool)
    rows, weights = rows_of(given, typical)
    known = np.isin(np.arange(len(given.N)), rows.targets)
    head = fit(rows, check=check, tolerance=tolerance)
    if is_worthwhile(len(given.pool), int(known.sum())):
        teacher = teacher_of(given.X, given.targets, given.N, weights, given.pool, typical)
        head = self_train(head, rows, given.pool, len(given.X), teacher, check, tolerance)
    return Probe(head, known)


def rows_of(given: ProbeInputs, typical: float) -> tuple[WeightedRows, Floats]:
    """Return the labelled texts and the names to fit, and the weight of each name (labels,)."""
    rows = WeightedRows.of(given.X, given.targets, len(given.N))
    weights = name_weights(given.X, given.targets, given.N, typical)
    named = np.flatnonzero(weights)
    return rows.with_labelled(given.N[named], named, weights[named]), weights


def cross_fit(
    given: ProbeInputs,
    folds: Rows,
    check: Callable[[], None] = lambda: None,
    report: Callable[[int], None] = lambda _: None,
    threads: int = 1,
) -> tuple[Floats, Flags, Flags]:
    """Return logits (n, labels) by probes that know nothing of a text's fold, whether they knew its label, and which texts have any.

    `folds`: (n,) the fold of each text; `report` is told how many folds are done. What `check` raises ends all of them.
    """
    logits = np.zeros((len(given.X), len(given.N)), np.float32)
    learnable, evaluated = np.zeros(len(given.X), np.bool_), np.zeros(len(given.X), np.bool_)

    def without(inside: Flags) -> Probe:
        return train_probe(given.without(inside), check, FOLD_TOLERANCE)

    for inside, own in fits_by_fold(folds, without, report, threads):
        logits[inside] = given.X[inside] @ own.head.weight.T + own.head.bias
        learnable[inside] = own.known[given.targets[inside]]
        evaluated |= inside
    return logits, learnable, evaluated


def fit_head(X: Floats, targets: Rows, labels: int, check: Callable[[], None] = lambda: None) -> Head:
    """Return a head from labelled texts (n, d) alone, for features as the encoder gives them."""
    scale = Scale.of(X, X[:0])
    return scale.fold(fit(WeightedRows.of(scale.apply(X), targets, labels), check=check))


def linear_probe(context: TrainingContext) -> TrainedModel:
    """Train on everything, then for each fold anew: a fold that began with what everything has taught would remember its labels."""
    features, dataset, check = context.features, context.inputs.dataset, context.run.stop.check
    folds = np.array([fold_of(key) for key in dataset.split_keys], np.int64)
    context.run.progress.stage("fitting", steps=FOLDS + 1)
    pool, held = split_pool(context.pool_features)
    given, scale = ProbeInputs.of(features.X, dataset.targets, features.names, pool)
    probe = train_probe(given, check)
    context.run.progress.step(1)
    logits, learnable, evaluated = cross_fit(
        given, folds, check, lambda done: context.run.progress.step(done + 1), available_cores()
    )
    rows, head = np.flatnonzero(evaluated), scale.fold(probe.head)
    return TrainedModel(
        method=Method.LINEAR_PROBE,
        model=None,
        head=head,
        logits=features.X @ head.weight.T + head.bias,
        out_of_sample=OutOfSampleLogits(rows, logits[rows], learnable[rows], folds, CROSS_FIT),
        trained=np.ones(len(features.X), np.bool_),
        parameters=context.run.request.parameters,
        unseen=held @ head.weight.T + head.bias if len(held) else None,
    )
