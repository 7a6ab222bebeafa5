"""The accuracy that a version expects of itself against the truth, with labels chosen by uncertainty and at random.

A project has some of the training set's texts. The truth is the accuracy on the others, which have the same distribution: the figure
means "of this project's texts". Each version is then scored by the labels that come after it, as the leader does.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from bench.learning.material import Material
from bench.result import say
from services.core.domain import Selection
from services.core.estimate_scores import judged_accuracy, observed_accuracy
from services.core.pool import PoolPredictions
from services.engine.compute import softmax
from services.trainer.data.features import Flags, Floats, Rows
from services.trainer.data.split import FOLDS
from services.trainer.evaluation.expected import of_unlabelled
from services.trainer.evaluation.metrics import fit_temperature
from services.trainer.methods import Head
from services.trainer.methods.linear_probe import ProbeInputs, cross_fit, train_probe
from services.trainer.methods.self_training import split_pool

CHOSEN, RANDOM = "least sure of", "at random"
STEPS = {CHOSEN: (100, 200, 300, 450, 600, 900), RANDOM: (100, 300, 600, 1_000, 1_300)}
"""Labels of the versions; those of the last one score the others alone."""
GOALS = {CHOSEN: 0.05, RANDOM: 0.03}
"""Greatest error: of each version with chosen labels, of the mean with 300 random ones."""
GOAL = "the expected accuracy within ±5 points at 100 to 600 chosen labels, within ±3 on average at 300 random ones"
HOW = (
    "What versions expect: a project has 60 % of the training set, the accuracy is that on the other texts of it, and chosen labels are "
    "those of which the version 50 labels before was least sure. Scored later: as the leader does, by the labels of the last version."
)
_BATCH = 50
"""Texts that are labelled in the order of one version's scores."""
_PROJECT = 0.6
"""Share of the training set that the project has."""
_POOL = 4_000


@dataclass(frozen=True, slots=True)
class Version:
    """A version, and what it says of itself; shares."""

    labelled: Rows
    head: Head
    temperature: float
    expected: float
    margin: float
    selection: Selection
    cross_validated: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One version's figures, as shares; errors are positive where the figure is too high."""

    how: str
    labels: int
    accuracy: float
    error: float
    cross_validated: float
    """The error of that figure."""
    margin: float
    selection: Selection
    scored: float
    """The error as scored by the labels that came later."""


class Project:
    """Texts that are labelled one batch after the other."""

    def __init__(self, material: Material, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        order = self.random.permutation(len(material.X))
        count = int(_PROJECT * len(order))
        self.material, self.texts, self.others = material, order[:count], order[count:]

    def measure(self, how: str) -> list[Measured]:
        """Return the figures of the version at each step but the last."""
        made, labelled = list[Version](), self.texts[:_BATCH]
        for goal in STEPS[how]:
            while len(labelled) < goal:
                labelled = self._with_more(labelled, goal) if how == CHOSEN else self.texts[:goal]
            made.append(self._version(labelled))
        return [self._compare(how, version, made[-1]) for version in made[:-1]]

    def _with_more(self, labelled: Rows, goal: int) -> Rows:
        rest = self._rest(labelled)
        inputs, fold, _ = self._inputs(labelled)
        p = self._probabilities(fold(train_probe(inputs).head), 1.0, rest)
        two = np.partition(p, -2, axis=1)[:, -2:]
        order = np.argsort(two[:, 1] / two.sum(axis=1))
        return np.concatenate([labelled, rest[order[: min(_BATCH, goal - len(labelled))]]])

    def _version(self, labelled: Rows) -> Version:
        inputs, fold, unseen = self._inputs(labelled)
        probe, folds = train_probe(inputs), self.random.integers(0, FOLDS, len(labelled))
        logits, learnable, known = cross_fit(inputs, folds)
        head = fold(probe.head)
        temperature = fit_temperature(logits[learnable & known], inputs.targets[learnable & known])
        answers = softmax(logits[known], temperature)
        given = softmax(unseen @ head.weight.T + head.bias, temperature)
        found = of_unlabelled(given, answers, len(labelled), len(labelled) / len(self.texts))
        return Version(
            labelled,
            head,
            temperature,
            found.accuracy or 0.0,
            found.margin,
            found.selection,
            float((answers.argmax(axis=1) == inputs.targets[known]).mean()),
        )

    def _inputs(self, labelled: Rows) -> tuple[ProbeInputs, Callable[[Head], Head], Floats]:
        """Return what a probe is made of, what makes its head one for plain features, and unlabelled texts that it does not see."""
        pool, unseen = split_pool(self.material.X[self.random.permutation(self._rest(labelled))[:_POOL]])
        targets, names = self.material.targets[labelled], self.material.names
        inputs, scale = ProbeInputs.of(self.material.X[labelled], targets, names, pool)
        return inputs, scale.fold, unseen

    def _compare(self, how: str, version: Version, newest: Version) -> Measured:
        truth = float(self._is_right(version, self.others).mean())
        return Measured(
            how,
            len(version.labelled),
            truth,
            version.expected - truth,
            version.cross_validated - truth,
            version.margin,
            version.selection,
            version.expected - self._scored(how, version, newest),
        )

    def _scored(self, how: str, version: Version, newest: Version) -> float:
        """Return the accuracy on the version's pool as the leader would see it when the newest version is served."""
        answers, judge = self._answers(version), self._answers(newest)
        places = np.flatnonzero(np.isin(answers.tasks, newest.labelled))
        is_right = answers.labels[places] == self.material.targets[answers.tasks[places]]
        if how == RANDOM:
            return observed_accuracy(answers.p1, answers.p1[places], is_right)[0]
        return judged_accuracy(answers, judge, np.arange(len(self.material.names)), places, is_right)

    def _answers(self, version: Version) -> PoolPredictions:
        rest = self._rest(version.labelled)
        p = self._probabilities(version.head, version.temperature, rest)
        p1 = p.max(axis=1)
        return PoolPredictions(rest, p.argmax(axis=1).astype(np.int32), p1, p1, rest.astype(np.uint64))

    def _rest(self, labelled: Rows) -> Rows:
        return self.texts[~np.isin(self.texts, labelled)]

    def _is_right(self, version: Version, rows: Rows) -> Flags:
        answers = self._probabilities(version.head, version.temperature, rows).argmax(axis=1)
        return np.asarray(answers == self.material.targets[rows])

    def _probabilities(self, head: Head, temperature: float, rows: Rows) -> Floats:
        return softmax(self.material.X[rows] @ head.weight.T + head.bias, temperature)


def measure(material: Material, seeds: int) -> list[Measured]:
    """Return the figures of all versions of all projects."""
    found = []
    for seed in range(seeds):
        for how in STEPS:
            found += (own := Project(material, seed).measure(how))
            errors = ", ".join(f"{one.labels} {100 * one.error:+.1f}" for one in own)
            say(f"learning: estimate, labels {how}, seed {seed}: {errors}")
    return found


def is_met(found: Sequence[Measured]) -> bool:
    """Return whether each version with chosen labels, and the mean with 300 random ones, is within its goal."""
    chosen = [abs(one.error) for one in found if one.how == CHOSEN]
    random = statistics.mean(one.error for one in found if (one.how, one.labels) == (RANDOM, 300))
    return max(chosen) <= GOALS[CHOSEN] and abs(random) <= GOALS[RANDOM]


def table(found: Sequence[Measured]) -> list[tuple[str, ...]]:
    """Return a row for each number of labels."""
    header = (
        "labels",
        "chosen",
        "accuracy, %",
        "estimate - accuracy, points",
        "worst",
        "within its margin",
        "cross-validated - accuracy, points",
        "scored later, points",
    )
    groups = dict.fromkeys((one.how, one.labels) for one in found)
    return [header, *(_row([one for one in found if (one.how, one.labels) == group]) for group in groups)]


def _row(rows: Sequence[Measured]) -> tuple[str, ...]:
    within = sum(abs(one.error) <= one.margin for one in rows)
    return (
        str(rows[0].labels),
        rows[0].how,
        f"{100 * statistics.mean(one.accuracy for one in rows):.1f}",
        _points(one.error for one in rows),
        f"{100 * max((one.error for one in rows), key=abs):+.1f}",
        f"{within} of {len(rows)} (±{100 * statistics.mean(one.margin for one in rows):.1f})",
        _points(one.cross_validated for one in rows),
        _points(one.scored for one in rows),
    )


def _points(shares: Iterable[float]) -> str:
    return f"{100 * statistics.mean(shares):+.1f}"
