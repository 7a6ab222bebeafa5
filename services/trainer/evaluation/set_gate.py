"""The gate where a text may have several labels, or none: what counts as right, fixed and broken. Pure.

Two versions are compared text by text, by the Jaccard index of their answers and the true labels; two empty sets agree. Whole answers
that are right are too few to tell versions apart: of 10 pairs of versions from half the labels and from all, Jaccard told 4, 9 and
10 with 50, 100 and 300 labels, exact answers 0, 5 and 10. The decision on these figures is that of `gate`.

A label by itself is worse if more of its answers broke than were fixed, unless its F1 rose without giving it to far too many texts. Both ways of being wrong count, so
that a version that gives a label to everything is seen; but a version that begins to find a rare label makes more wrong answers than
it removes, and is better all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from services.core.domain import GateDecision, OutOfSample
from services.core.labels.examples import words_of
from services.core.labels.mentions import mention
from services.core.labels.uncounted import plural
from services.trainer.evaluation.gate import SIGNIFICANCE, Change, Pairs, sign_test
from services.trainer.evaluation.set_metrics import f1_of_labels

Labels = tuple[str, ...]
_MOST_GIVEN: Final = 4.0
"""Times as many texts as have a label may be given it by a version that is called better on it: F1 rises with recall alone."""


def jaccard(found: Labels, true: Labels) -> float:
    """Return the share of labels in both sets among those in either; 1 if both are empty."""
    either = set(found) | set(true)
    return len(set(found) & set(true)) / len(either) if either else 1.0


def chosen_labels(version: OutOfSample, probabilities: Sequence[float]) -> Labels:
    """Return the labels that a version chooses by these probabilities."""
    rows = zip(version.labels, probabilities, version.thresholds, strict=True)
    return tuple(label for label, probability, threshold in rows if probability >= threshold)


@dataclass(frozen=True, slots=True)
class _Row:
    """A text that both versions have answered out of sample."""

    key: str
    true: Labels
    before: Labels
    now: Labels

    @property
    def gain(self) -> float:
        return jaccard(self.now, self.true) - jaccard(self.before, self.true)

    @property
    def change(self) -> Change:
        return Change(self.key, words_of(self.before), words_of(self.now))


def pair_up_sets(
    candidate: OutOfSample,
    current: OutOfSample,
    truth: Mapping[str, Labels],
    fresh: Mapping[str, tuple[float, ...]] | None,
) -> Pairs:
    """Compare two versions on today's labels (text key to labels); fixed is a text whose answer is now nearer to them.

    `fresh` as in `gate.pair_up`.
    """
    rows: list[_Row] = []
    lineage = set(current.trained_keys)
    for key in sorted(candidate.answers.keys() & truth.keys()):
        given = current.answers.get(key)
        if given is None and fresh and key not in lineage:
            given = fresh.get(key)
        if given is not None:
            now = chosen_labels(candidate, candidate.answers[key])
            rows.append(_Row(key, truth[key], chosen_labels(current, given), now))
    fixed = tuple(row.change for row in rows if row.gain > 0)
    broken = tuple(row.change for row in rows if row.gain < 0)
    per_label, improved = _by_label(rows, candidate.labels)
    return Pairs(len(fixed), len(broken), len(rows), per_label, fixed, broken, improved, of_sets=True)


def _by_label(rows: Sequence[_Row], labels: Labels) -> tuple[dict[str, tuple[int, int, int]], frozenset[str]]:
    """Return each label's (fixed, broken, total) texts, and the labels that got better: see the module.

    Its total is the texts that have it or are given it by one of the versions.
    """
    true = _flags([row.true for row in rows], labels)
    before, now = _flags([row.before for row in rows], labels), _flags([row.now for row in rows], labels)
    columns = [
        flags.sum(axis=0).tolist()
        for flags in ((now == true) & (before != true), (now != true) & (before == true), true | before | now)
    ]
    is_flood = now.sum(axis=0) > _MOST_GIVEN * true.sum(axis=0)
    improved = (f1_of_labels(now, true) > f1_of_labels(before, true)) & ~is_flood
    counts = dict(zip(labels, zip(*columns, strict=True), strict=True))
    return counts, frozenset(label for label, is_better in zip(labels, improved, strict=True) if is_better)


def _flags(found: Sequence[Labels], labels: Labels) -> NDArray[np.bool_]:
    """Return (texts, labels) which labels each text has; labels of an earlier label config count for nothing."""
    place = {label: number for number, label in enumerate(labels)}
    flags = np.zeros((len(found), len(labels)), np.bool_)
    for row, names in enumerate(found):
        flags[row, [place[name] for name in names if name in place]] = True
    return flags


def decide_first_sets(
    candidate: OutOfSample, truth: Mapping[str, Labels], *, requested: bool = False
) -> GateDecision:
    """Decide if nothing is served: the version must beat the one answer that is best for every text, a single label or none.

    `requested`: a person requested this version; then it must not be significantly worse than that.
    """
    evaluated = sorted(candidate.answers.keys() & truth.keys())
    if not evaluated:
        reason = f"Held: {_labelled(len(truth))} not enough yet: no text could be evaluated out of sample."
        return GateDecision(False, "too-few", (reason,))
    constant = _best_constant([truth[key] for key in evaluated])
    own = [jaccard(chosen_labels(candidate, candidate.answers[key]), truth[key]) for key in evaluated]
    fixed_answer = [jaccard(constant, truth[key]) for key in evaluated]
    fixed = sum(mine > other for mine, other in zip(own, fixed_answer, strict=True))
    broken = sum(mine < other for mine, other in zip(own, fixed_answer, strict=True))
    is_better = sign_test(broken, fixed) < SIGNIFICANCE
    promote = is_better or (requested and sign_test(fixed, broken) >= SIGNIFICANCE)
    always = mention(constant[0]) if constant else words_of(())
    figures = (
        f"its labels share {100 * np.mean(own):.0f} % with the true ones ({plural(len(evaluated))}); always answering {always} "
        f"shares {100 * np.mean(fixed_answer):.0f} %."
    )
    if is_better:
        reason = f"Promoted: first version: {figures}"
    elif promote:
        reason = f"Promoted: a person requested it, and it is not significantly worse than one answer for all: {figures}"
    else:
        reason = f"Held: {_labelled(len(truth))} not enough yet: {figures}"
    kind = "first" if promote else "too-few"
    return GateDecision(promote, kind, (reason,), None, len(evaluated), fixed, broken)


def _best_constant(truths: Sequence[Labels]) -> Labels:
    """Return the answer, one label or none, that shares most with these labels."""
    gains: Counter[Labels] = Counter({(): 0})
    for true in truths:
        gains.update({(label,): 1 / len(true) for label in true} or {(): 1})  # type: ignore[dict-item]  # a Counter adds any number
    return max(gains, key=lambda one: (gains[one], one))


def _labelled(count: int) -> str:
    return "1 labelled text is" if count == 1 else f"{count} labelled texts are"
