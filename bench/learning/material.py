"""Features of banking77's texts and label names, computed once, and random draws of labelled and unlabelled texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from bench import texts
from bench.labels import new_run
from bench.result import Options, say
from bench.rig import base
from services.core.domain import Method, Parameters
from services.core.labels.names import clean_name
from services.trainer.data.base_encoder import BaseEncoder
from services.trainer.data.base_model import load_base
from services.trainer.data.features import Floats, Rows
from services.trainer.methods import Head
from services.trainer.publishing.base_encoder import open_encoder

POOL = 2_000
_KEPT = Path(".bench/features")


@dataclass(frozen=True, slots=True)
class Draw:
    """What a run has, and the test set."""

    X: Floats
    """(n, d) of labelled texts."""
    targets: Rows
    names: Floats
    """(labels, d)"""
    pool: Floats
    """(m, d) of unlabelled texts."""
    test: Floats
    test_targets: Rows
    rows: Rows
    """(n,) places of the labelled texts in the training set."""

    def accuracy(self, head: Head) -> float:
        """Return the head's accuracy on the test set."""
        return float(((self.test @ head.weight.T + head.bias).argmax(axis=1) == self.test_targets).mean())


@dataclass(frozen=True, slots=True)
class Material:
    """All texts as features."""

    X: Floats
    targets: Rows
    names: Floats
    test: Floats
    test_targets: Rows

    def draw(self, each: int | None, seed: int, pool: int = POOL) -> Draw:
        """Label so many texts of each label, None: all; of the others some are the pool."""
        random = np.random.default_rng(seed)
        order = random.permutation(len(self.X))
        labelled = order if each is None else _of_each(order, self.targets, each)
        others = order[~np.isin(order, labelled)]
        return self.of_rows(labelled, others[:pool])

    def of_rows(self, labelled: Rows, pool: Rows) -> Draw:
        """Label these texts; those are the pool."""
        return Draw(
            self.X[labelled],
            self.targets[labelled],
            self.names,
            self.X[pool],
            self.test,
            self.test_targets,
            labelled,
        )

    def some_labels(self, count: int, seed: int) -> Material:
        """Return the material of this many of the labels, drawn at random."""
        chosen = np.random.default_rng(seed).permutation(len(self.names))[:count]
        number = np.full(len(self.names), -1)
        number[chosen] = np.arange(count)
        train, test = np.isin(self.targets, chosen), np.isin(self.test_targets, chosen)
        return Material(
            self.X[train],
            number[self.targets[train]],
            self.names[chosen],
            self.test[test],
            number[self.test_targets[test]],
        )

    def named(self, names: Floats) -> Material:
        """Return the same with other names."""
        return replace(self, names=names)


def banking77(options: Options) -> Material:
    """Return banking77 as MiniLM in the engine that serves it sees it. Raise Skip."""
    labels = texts.intents(options.data)
    train, test = (texts.banking77(options.data, part) for part in ("train", "test"))
    return Material(
        features([text for text, _ in train], "train"),
        np.array([labels.index(label) for _, label in train], np.int64),
        features([clean_name(label) for label in labels]),
        features([text for text, _ in test], "test"),
        np.array([labels.index(label) for _, label in test], np.int64),
    )


def features(given: Sequence[str], keep_as: str = "") -> Floats:
    """Return the features (n, d) of texts as a run would read them from the cache; `keep_as`: a name to keep them by."""
    path = _KEPT / f"{keep_as}-{encoder().digest[:12]}-{len(given)}.npy"
    if keep_as and path.exists():
        return np.asarray(np.load(path), np.float32)
    say(f"learning: features of {len(given)} texts")
    found = encoder().encoder.features_of(given).astype(np.float16)
    if keep_as:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, found)
    return np.asarray(found, np.float32)


@cache
def encoder() -> BaseEncoder:
    """Return MiniLM's encoder, made as a run makes it."""
    parameters = Parameters(Method.LINEAR_PROBE, str(base()))
    with new_run([], ["a", "b"], parameters) as own:
        return open_encoder(
            own.registry, parameters, lambda: load_base(parameters.base_model, parameters.max_length)
        )


def _of_each(order: Rows, targets: Rows, each: int) -> Rows:
    """Return the first rows of each label in this order."""
    return np.concatenate([order[targets[order] == label][:each] for label in np.unique(targets)])
