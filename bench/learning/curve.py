"""Test accuracy by labels per class: the recipe, what each of its ingredients gives, and the probe of 0.1.0."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from bench.learning.material import Material
from bench.learning.variants import VARIANTS, WITHOUT_LABELS
from bench.result import say

EACH: tuple[int | None, ...] = (0, 1, 4, 8, 16, 64, None)
"""Labels per class; None: all that there are."""
Scores = dict[tuple[str, int | None], list[float]]


def measure(material: Material, seeds: int) -> Scores:
    """Return the accuracy of each variant at each number of labels, one for each seed."""
    found: Scores = {}
    for each in EACH:
        for seed in range(1 if each is None else seeds):
            draw = material.draw(each, seed)
            for name, variant in (VARIANTS if each != 0 else WITHOUT_LABELS).items():
                found.setdefault((name, each), []).append(draw.accuracy(variant(draw)))
        told = ", ".join(f"{name} {mean(scores)}" for (name, at), scores in found.items() if at == each)
        say(f"learning: {headed(each)}: {told}")
    return found


def rows(scores: Scores) -> Sequence[tuple[str, ...]]:
    """Return the table: a row for each variant."""
    names = dict.fromkeys(name for name, _ in scores)
    header = ("labels per class", *map(headed, EACH))
    return [
        header,
        *((name, *(mean(scores.get((name, each), [])) for each in EACH)) for name in names),
    ]


def headed(each: int | None) -> str:
    return "all" if each is None else str(each)


def mean(scores: Sequence[float]) -> str:
    return f"{100 * statistics.mean(scores):.1f}" if scores else ""
