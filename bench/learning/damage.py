"""Draws of labelled and unlabelled texts, damaged as data can be: names, labels, pools, numbers of labels, scripts."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from bench import texts
from bench.learning.material import Draw, Material, features
from bench.result import Options
from services.core.labels.names import clean_name
from services.trainer.data.features import Floats, Rows

MANY_LABELS = 500
_ALPHABETS = "αаԱაאبअกㄱぁ"
"""The first letters of ten scripts, in which the letters a to z are written."""
Case = Callable[[int], Draw]
"""Seed to draw."""


def with_names(material: Material, names: Callable[[int], Floats], each: int) -> Case:
    return lambda seed: material.named(names(seed)).draw(each, seed)


def shuffled(names: Floats, share: float) -> Callable[[int], Floats]:
    """Give a share of the labels each other's names."""

    def shuffle(seed: int) -> Floats:
        chosen = np.random.default_rng(seed).permutation(len(names))[: int(share * len(names))]
        found = names.copy()
        found[chosen] = names[np.roll(chosen, 1)]
        return found

    return shuffle


@cache
def codes(count: int) -> Floats:
    """Return the features of names that say nothing."""
    return features([f"c{number}" for number in range(count)])


def plain(material: Material, each: int) -> Case:
    return lambda seed: material.draw(each, seed)


def with_foreign(case: Case, foreign: Floats) -> Case:
    """Replace half of the pool."""

    def draw(seed: int) -> Draw:
        found = case(seed)
        half = len(found.pool) // 2
        order = np.random.default_rng(seed).permutation(len(foreign))[:half]
        pool = np.concatenate([found.pool[:half], foreign[order]])
        return replace(found, pool=pool[np.random.default_rng(seed).permutation(len(pool))])

    return draw


def flipped(case: Case) -> Case:
    """Give a fifth of the texts a random label."""

    def draw(seed: int) -> Draw:
        found, chance = case(seed), np.random.default_rng(seed)
        wrong = chance.random(len(found.targets)) < 0.2
        others = chance.integers(0, len(found.names), len(found.targets))
        return replace(found, targets=np.where(wrong, others, found.targets))

    return draw


def contradicting(case: Case) -> Case:
    """Label a fifth of the texts a second time, differently."""

    def draw(seed: int) -> Draw:
        found, chance = case(seed), np.random.default_rng(seed)
        again = chance.permutation(len(found.targets))[: len(found.targets) // 5]
        others = (found.targets[again] + chance.integers(1, len(found.names), len(again))) % len(found.names)
        return replace(
            found,
            X=np.concatenate([found.X, found.X[again]]),
            targets=np.concatenate([found.targets, others]),
        )

    return draw


def one_sided(material: Material, each: int) -> Case:
    """Let all of the pool be texts of the first ten labels."""

    def draw(seed: int) -> Draw:
        found = material.draw(each, seed, pool=len(material.X))
        near = (found.pool @ material.X[material.targets < 10].mean(axis=0)).argsort()[::-1]
        pool = found.pool[near[:1_000]]
        return replace(found, pool=pool[np.random.default_rng(seed).permutation(len(pool))])

    return draw


def of_few_labels(
    material: Material, count: int, each: int, names: Callable[[Material, int], Floats]
) -> Case:
    def draw(seed: int) -> Draw:
        some = material.some_labels(count, seed)
        return some.named(names(some, seed)).draw(each, seed)

    return draw


def zipf(material: Material, labelled: int) -> Case:
    def draw(seed: int) -> Draw:
        chance = np.random.default_rng(seed)
        shares = 1 / np.arange(1, len(material.names) + 1)
        weights = chance.permutation(shares)[material.targets]
        order = chance.choice(len(material.X), labelled + 2_000, replace=False, p=weights / weights.sum())
        some, pool = order[:labelled], order[labelled:]
        return replace(
            material.draw(1, seed), X=material.X[some], targets=material.targets[some], pool=material.X[pool]
        )

    return draw


def all_equal(draw: Draw) -> Draw:
    some, pool, test = (np.repeat(draw.X[:1], len(rows), axis=0) for rows in (draw.X, draw.pool, draw.test))
    return replace(draw, X=some, pool=pool, test=test)


def in_scripts(options: Options) -> Material:
    """Return banking77's first 20 labels, two in each of ten scripts, with names in that script."""
    labels = texts.intents(options.data)[:20]
    number = {label: place for place, label in enumerate(labels)}
    rows = {
        part: [row for row in texts.banking77(options.data, part) if row[1] in number]
        for part in ("train", "test")
    }

    def written(text: str, label: str) -> str:
        first = ord(_ALPHABETS[number[label] // 2])
        return "".join(
            chr(first + ord(letter) - ord("a")) if "a" <= letter <= "z" else letter for letter in text.lower()
        )

    def part(name: str) -> tuple[Floats, Rows]:
        given = [written(text, label) for text, label in rows[name]]
        return features(given, f"scripts-{name}"), np.array(
            [number[label] for _, label in rows[name]], np.int64
        )

    names = features([written(clean_name(label), label) for label in labels])
    return Material(*part("train"), names, *part("test"))


def many_labels(material: Material) -> Material:
    """Call the texts nearest to each of 500 texts one label, named by that text."""
    centres = material.X[np.random.default_rng(0).permutation(len(material.X))[:MANY_LABELS]]
    nearest, same = (material.X @ centres.T).argmax(axis=1), (material.test @ centres.T).argmax(axis=1)
    return Material(material.X, nearest, centres, material.test, same)


def foreign_texts() -> list[str]:
    """Return sentences of this project's documentation."""
    pages = sorted(Path("docs").rglob("*.md"))
    lines = [line for page in pages for line in re.split(r"(?<=[.:])\s|\n", page.read_text("utf-8"))]
    found = sorted({line.strip("#|-* ") for line in lines if 20 < len(line) < 200})
    return random.Random(0).sample(found, min(1_500, len(found)))
