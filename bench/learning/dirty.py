"""Bad input: the recipe beside the probe of 0.1.0, which reads neither names nor pool and so cannot be led astray by them.

Each case is drawn several times, and both learn from the same draws; what counts is the mean difference and its standard error.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from bench import texts
from bench.learning import damage
from bench.learning.damage import Case
from bench.learning.material import Material, banking77, features
from bench.learning.variants import earlier_probe, recipe
from bench.result import Options, say
from services.core.labels.names import clean_name
from services.trainer.data.features import Floats

_ERRORS = 2.0
"""Standard errors of the mean difference below which it is noise."""
_POINTS = 0.01
"""A mean difference too small to notice."""
_DRAWS, _DRAWS_OF_FEW = 3, 12
"""The test sets of few labels are small."""
Named = tuple[str, int, Case]
"""What is bad about the input, how many draws, and the draws."""


@dataclass(frozen=True, slots=True)
class Row:
    """The accuracies of one case, one of each draw."""

    name: str
    before: list[float]
    after: list[float]

    @property
    def difference(self) -> float:
        return statistics.mean(self.after) - statistics.mean(self.before)

    @property
    def error(self) -> float:
        """Return the standard error of the difference."""
        gaps = [after - before for before, after in zip(self.before, self.after, strict=True)]
        return statistics.stdev(gaps) / math.sqrt(len(gaps))

    @property
    def is_below(self) -> bool:
        """Return whether the recipe is worse beyond noise."""
        return self.difference < -max(_POINTS, _ERRORS * self.error)

    def cells(self) -> tuple[str, ...]:
        shares = (f"{100 * statistics.mean(found):.1f}" for found in (self.before, self.after))
        return (
            self.name,
            *shares,
            f"{100 * self.difference:+.1f} (±{100 * self.error:.1f})",
            "**below**" if self.is_below else "",
        )


def measure(options: Options) -> list[Row]:
    """Return a row for each case."""
    found = []
    for name, draws, case in _cases(options):
        pairs = [
            (draw.accuracy(earlier_probe(draw)), draw.accuracy(recipe(draw)))
            for draw in map(case, range(draws))
        ]
        row = Row(name, [before for before, _ in pairs], [after for _, after in pairs])
        say(f"learning: {' | '.join(row.cells())}")
        found.append(row)
    return found


def table(found: list[Row]) -> list[tuple[str, ...]]:
    header = ("input", "probe of 0.1.0, %", "recipe, %", "difference (standard error)", "beyond noise")
    return [header, *(row.cells() for row in found)]


def _cases(options: Options) -> Iterator[Named]:
    material = banking77(options)
    foreign = features(damage.foreign_texts(), "foreign")
    long = features(
        [f"{clean_name(label)} " + "and so on " * 100 for label in texts.intents(options.data)], "long"
    )
    for each in (1, 4, 16):
        yield from _all_labels(material, each, long, foreign)
    for count in (2, 4):
        for each in (1, 2, 4, 16):
            yield from _few_labels(material, count, each, foreign)
    scripts = damage.in_scripts(options)
    for each in (2, 8):
        yield f"ten scripts, {each} a label", _DRAWS, damage.plain(scripts, each)
    for name, case in _shapes(material):
        yield name, _DRAWS, case


def _all_labels(material: Material, each: int, long: Floats, foreign: Floats) -> Iterator[Named]:
    names, plain = material.names, damage.plain(material, each)
    for name, case in {
        "names that are codes": damage.with_names(material, lambda _: damage.codes(len(names)), each),
        "each name is another label's": damage.with_names(material, damage.shuffled(names, 1.0), each),
        "half of the names are others'": damage.with_names(material, damage.shuffled(names, 0.5), each),
        "labels of 1,000 characters": damage.with_names(material, lambda _: long, each),
        "half of the pool is foreign": damage.with_foreign(plain, foreign),
        "a fifth of the labels is wrong": damage.flipped(plain),
        "a fifth of the texts twice, with another label": damage.contradicting(plain),
        "a pool of one topic": damage.one_sided(material, each),
    }.items():
        yield f"{name}, {each} a label", _DRAWS, case


def _few_labels(material: Material, count: int, each: int, foreign: Floats) -> Iterator[Named]:
    plain = damage.of_few_labels(material, count, each, lambda few, _: few.names)
    wrong = damage.of_few_labels(material, count, each, lambda few, _: np.roll(few.names, 1, 0))
    for name, case in {
        "": plain,
        " with wrong names": wrong,
        ", a fifth of the labels is wrong": damage.flipped(plain),
        ", half of the pool is foreign": damage.with_foreign(plain, foreign),
    }.items():
        yield f"{count} labels{name}, {each} each", _DRAWS_OF_FEW, case


def _shapes(material: Material) -> Iterator[tuple[str, Case]]:
    wrong = material.named(np.roll(material.names, 1, 0))
    yield "labels as often as people meet them (Zipf), 300 labelled", damage.zipf(material, 300)
    yield "the same, and each name is another label's", damage.zipf(wrong, 300)
    yield "all texts have the same features", lambda seed: damage.all_equal(material.draw(4, seed))
    many = damage.many_labels(material)
    silent = many.named(damage.codes(damage.MANY_LABELS))
    yield f"{damage.MANY_LABELS} labels, named by a text each", damage.plain(many, 4)
    yield f"{damage.MANY_LABELS} labels, names that are codes", damage.plain(silent, 4)
