"""Ways to make a head of a draw: the recipe, the recipe with an ingredient changed, and the probe of release 0.1.0."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from bench.learning.material import Draw
from services.trainer.data.features import Floats
from services.trainer.methods import Head
from services.trainer.methods.fitting import WeightedRows, fit
from services.trainer.methods.linear_probe import ProbeInputs, rows_of, train_probe
from services.trainer.methods.names import name_features
from services.trainer.methods.scaling import Scale
from services.trainer.methods.self_training import is_worthwhile, self_train, split_pool
from services.trainer.methods.teacher import Teacher
from services.trainer.methods.typicality import typicality
from services.trainer.methods.zero_shot import SERVED_SLOPE, zero_shot

Variant = Callable[[Draw], Head]
RECIPE, EARLIER_PROBE = "the recipe", "the probe of 0.1.0: labelled texts alone"


def recipe(draw: Draw) -> Head:
    """Make the head as `linear-probe` does, which holds a part of the pool back."""
    pool, _ = split_pool(draw.pool)
    given, scale = ProbeInputs.of(draw.X, draw.targets, draw.names, pool)
    return scale.fold(train_probe(given).head)


def earlier_probe(draw: Draw) -> Head:
    """Make the head as release 0.1.0 did: features divided by their mean length, labelled texts alone."""
    length = np.float32(np.linalg.norm(draw.X, axis=1).mean())
    head = fit(WeightedRows.of(draw.X / length, draw.targets, len(draw.names)))
    return Head(head.weight / length, head.bias)


def without_scaling(draw: Draw) -> Head:
    pool, _ = split_pool(draw.pool)
    return train_probe(ProbeInputs(draw.X, draw.targets, name_features(draw.names), pool)).head


def without_names(draw: Draw) -> Head:
    return recipe(replace(draw, names=np.zeros_like(draw.names)))


def without_pool(draw: Draw) -> Head:
    """Use the pool for centre and scale alone."""
    given, scale = ProbeInputs.of(draw.X, draw.targets, draw.names, split_pool(draw.pool)[0])
    return scale.fold(train_probe(replace(given, pool=given.pool[:0])).head)


def without_mixture(draw: Draw) -> Head:
    """Let the head alone teach itself."""
    given, scale = ProbeInputs.of(draw.X, draw.targets, draw.names, split_pool(draw.pool)[0])
    rows, _ = rows_of(given, typicality(given.X, given.N, given.pool))
    head, silent = fit(rows), np.zeros(len(given.pool), np.float32)
    if is_worthwhile(len(given.pool), len(np.unique(rows.targets))):
        teacher = Teacher(np.zeros((len(given.pool), len(given.N)), np.float32), silent, 0.0)
        head = self_train(head, rows, given.pool, len(given.X), teacher)
    return scale.fold(head)


def whole_pool(draw: Draw) -> Head:
    given, scale = ProbeInputs.of(draw.X, draw.targets, draw.names, draw.pool)
    return scale.fold(train_probe(given).head)


def cosine(draw: Draw) -> Head:
    """Answer the label of the nearest name."""
    scale = Scale.of(draw.pool, draw.pool[:0])
    centres: Floats = np.float32(SERVED_SLOPE) * name_features(draw.names)
    return scale.fold(Head(centres, np.zeros(len(centres), np.float32)))


def from_names(draw: Draw) -> Head:
    return zero_shot(draw.names, draw.pool)


VARIANTS: dict[str, Variant] = {
    RECIPE: recipe,
    "without self-training": without_pool,
    "without the mixture in self-training": without_mixture,
    "without names": without_names,
    "without centring and scaling": without_scaling,
    "with all of the pool, none held back for the estimate": whole_pool,
    EARLIER_PROBE: earlier_probe,
}
WITHOUT_LABELS: dict[str, Variant] = {RECIPE: from_names, "cosine to names": cosine}
