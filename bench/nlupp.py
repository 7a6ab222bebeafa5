"""NLU++ as features: domains, random draws of labelled texts, and the heads that a run would make of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from bench.learning.material import features
from services.core.labels.names import clean_name
from services.trainer.data.features import Features, Flags, Floats
from services.trainer.methods.one_vs_rest import Fitted, fit_by_folds

POOL = 500
FOLDS = 10


@dataclass(frozen=True)
class Draw:
    """Labelled texts, a pool, and the test set."""

    given: Features
    chosen: Flags
    test: Floats
    true: Flags

    @cached_property
    def fitted(self) -> Fitted:
        return fit_by_folds(self.given, self.chosen, np.arange(len(self.chosen)) % FOLDS)

    @cached_property
    def nameless(self) -> Draw:
        """The same without names of labels."""
        return replace(self, given=replace(self.given, names=self.given.names[:0]))

    @cached_property
    def half(self) -> Draw:
        """The same with half of the labelled texts."""
        some = len(self.chosen) // 2
        return replace(self, given=replace(self.given, X=self.given.X[:some]), chosen=self.chosen[:some])


@dataclass(frozen=True, slots=True)
class Domain:
    """One part of NLU++, as features."""

    name: str
    X: Floats
    names: Floats
    chosen: Flags

    def draw(self, count: int, seed: int) -> Draw:
        """Label this many texts; half of the others are the test set, and at most POOL of the rest are the pool."""
        order = np.random.default_rng(seed).permutation(len(self.X))
        labelled, others = order[:count], order[count:]
        test, pool = others[: len(others) // 2], others[len(others) // 2 :][:POOL]
        given = Features([], self.X[labelled], self.names, self.X[pool])
        return Draw(given, self.chosen[labelled], self.X[test], self.chosen[test])


def read(data: Path, name: str) -> Domain | None:
    """Return a domain; None if its file is missing. Texts occur more than once: the first counts."""
    path = data / "nlupp" / f"{name}.jsonl"
    if not path.exists():
        return None
    every = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    lines = list({line["text"]: line for line in reversed(every)}.values())[::-1]
    labels = sorted({label for line in lines for label in line["intents"]})
    chosen = np.array([[label in line["intents"] for label in labels] for line in lines], np.bool_)
    names = features([clean_name(label) for label in labels])
    return Domain(name, features([line["text"] for line in lines], f"nlupp-{name}"), names, chosen)


def logits_of(found: Fitted, rows: Floats) -> Floats:
    return np.asarray(rows @ found.head.weight.T + found.head.bias, np.float32)


def without_thresholds(found: Fitted) -> tuple[Floats, Floats]:
    """Return the thresholds as logits, and the out-of-fold logits without them."""
    thresholds = np.log(found.probabilities / (1 - found.probabilities))
    return thresholds, found.logits + thresholds
