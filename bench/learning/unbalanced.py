"""Labels as people give them: at random, or those that names alone are least sure of first; `curve` has as many of each label."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bench.learning.material import POOL, Draw, Material
from bench.learning.variants import (
    EARLIER_PROBE,
    RECIPE,
    Variant,
    earlier_probe,
    from_names,
    recipe,
    without_mixture,
)
from bench.result import say
from services.trainer.data.features import Rows

CHOSEN, RANDOM = "names least sure of", "at random"
FEW = 4
SIZES = {FEW: (10, 20, 40, 100), 0: (20, 50, 100, 200, 400)}
"""Labelled texts in all, by how many of the labels the project has; 0: all of them."""
VARIANTS: dict[str, Variant] = {
    "names alone": from_names,
    RECIPE: recipe,
    "without the mixture in self-training": without_mixture,
    EARLIER_PROBE: earlier_probe,
}
HOW = "Labels as people give them: a project has up to 3,000 texts, of which so many in all are labelled."
_PROJECT = 3_000


@dataclass(frozen=True, slots=True)
class Row:
    """The accuracies of each variant, one of each draw."""

    labels: int
    how: str
    texts: int
    scores: dict[str, list[float]]

    def cells(self) -> tuple[str, ...]:
        means = (f"{100 * statistics.mean(found):.1f}" for found in self.scores.values())
        return (str(self.labels), self.how, str(self.texts), *means)


def measure(material: Material, seeds: int) -> list[Row]:
    """Return a row for each number of labels, order and size."""
    found = []
    for count, sizes in SIZES.items():
        projects = [material.some_labels(count, seed) if count else material for seed in range(seeds)]
        for how, order in {CHOSEN: _chosen, RANDOM: _random}.items():
            orders = [order(project, seed) for seed, project in enumerate(projects)]
            for texts in sizes:
                draws = [_draw(*each, texts) for each in zip(projects, orders, strict=True)]
                scores = {
                    name: [draw.accuracy(make(draw)) for draw in draws] for name, make in VARIANTS.items()
                }
                found.append(Row(len(projects[0].names), how, texts, scores))
                say(f"learning: {' | '.join(found[-1].cells())}")
    return found


def table(found: Sequence[Row]) -> list[tuple[str, ...]]:
    return [("labels", "labelled texts", "in all", *VARIANTS), *(row.cells() for row in found)]


def _random(material: Material, seed: int) -> Rows:
    return np.random.default_rng(seed).permutation(len(material.X))[:_PROJECT]


def _chosen(material: Material, seed: int) -> Rows:
    """Return a project's texts in the order of how far the two likeliest labels are apart, by the version from names alone."""
    rows = _random(material, seed)
    head = from_names(_draw(material, rows, 0))
    two = np.partition(material.X[rows] @ head.weight.T + head.bias, -2, axis=1)[:, -2:]
    return np.asarray(rows[np.argsort(two[:, 1] - two[:, 0], kind="stable")], np.int64)


def _draw(material: Material, order: Rows, texts: int) -> Draw:
    rest = np.random.default_rng(texts).permutation(order[texts:])
    return material.of_rows(order[:texts], rest[:POOL])
