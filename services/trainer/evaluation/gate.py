"""The gate: promote or hold a new version. Pure.

A veto rather than a contest: a version by the same method is promoted unless it is significantly worse, over all texts or on one label,
and so is one that a person requested; another method has to be better on 100 texts or more, and a version that replaces one from label
names only on 40 or more, or beyond doubt. Differences are tested by the sign test. Reasons are written for an annotation lead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from services.core.domain import GateDecision, OutOfSample
from services.core.labels.mentions import mention, mention_all
from services.core.labels.uncounted import plural
from services.trainer.methods.plan import MIN_PAIRS

SIGNIFICANCE: Final = 0.10
"""Significance level of the sign test over all texts."""
LABEL_SIGNIFICANCE: Final = 0.05
"""The same for one label, divided by the number of labels (Bonferroni)."""
MIN_NAMES_PAIRS_OF_SETS: Final = 20  # each text tells about all labels (decision 61)
MIN_NAMES_PAIRS: Final = 40
"""Compared texts below which a version from label names only is replaced if the difference is beyond doubt. Labels are chosen where that
version is uncertain, so it is wrong on them more often than on others; with fewer a worse version would be promoted (decision 46)."""
BEYOND_DOUBT: Final = 0.01
"""Significance level of that."""
MIN_LABEL_PAIRS: Final = 10
"""Compared texts of a label below which it is not tested by itself."""


@dataclass(frozen=True, slots=True)
class Change:
    """A text on which one of two versions is right and the other wrong."""

    key: str
    before: str | None
    """Current's answer; None if the true label is new to it: it was not asked."""
    now: str | None
    """The candidate's answer."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Texts that both versions have answered out of sample."""

    fixed: int
    """Candidate right, current wrong."""
    broken: int
    """Candidate wrong, current right."""
    total: int
    per_label: dict[str, tuple[int, int, int]]
    """True label to (fixed, broken, total), labels without a pair included; with `of_sets` of texts that were given it, too."""
    fixed_texts: tuple[Change, ...] = field(default=(), compare=False)
    broken_texts: tuple[Change, ...] = field(default=(), compare=False)
    improved: frozenset[str] = frozenset()
    """Labels that are not worse whatever these counts say."""
    of_sets: bool = False


def sign_test(b: int, c: int) -> float:
    """Return the one-sided p-value P(X <= b) for X ~ Binomial(b + c, 1/2), exactly; 1.0 for b = c = 0."""
    n = b + c
    term = total = 1
    for k in range(b):
        term = term * (n - k) // (k + 1)
        total += term
    return total / (1 << n)


def pair_up(
    candidate: OutOfSample,
    current: OutOfSample,
    truth: Mapping[str, str],
    fresh: Mapping[str, tuple[float, ...]] | None,
) -> Pairs:
    """Compare two versions on today's labels (text key to label).

    `fresh` are current's answers now, in the order of its labels, and count only for texts that it was not trained on. If the
    true label is new to current, current is wrong without being asked.
    """
    counts = {label: [0, 0, 0] for label in candidate.labels}
    fixed_texts, broken_texts = list[Change](), list[Change]()
    lineage = set(current.trained_keys)
    for key in sorted(candidate.answers.keys() & truth.keys()):
        label, given = truth[key], current.answers.get(key)
        if given is None and fresh and key not in lineage:
            given = fresh.get(key)
        if given is None and label in current.labels:
            continue
        before = None if given is None else _answer(current.labels, given)
        change = Change(key, before, _answer(candidate.labels, candidate.answers[key]))
        row = counts.setdefault(label, [0, 0, 0])
        row[2] += 1
        if change.before != change.now and label in {change.before, change.now}:
            is_fixed = change.now == label
            row[0 if is_fixed else 1] += 1
            (fixed_texts if is_fixed else broken_texts).append(change)
    per_label = {label: (row[0], row[1], row[2]) for label, row in counts.items()}
    fixed, broken, total = (sum(row[place] for row in per_label.values()) for place in range(3))
    return Pairs(fixed, broken, total, per_label, tuple(fixed_texts), tuple(broken_texts))


def decide_first(
    candidate: OutOfSample, truth: Mapping[str, str], *, requested: bool = False
) -> GateDecision:
    """Decide if nothing is served: the version must beat the most frequent label given to every text.

    `requested`: a person requested this version; then it must not be significantly worse than that.
    """
    evaluated = candidate.answers.keys() & truth.keys()
    if not evaluated:
        reason = f"Held: {_labels(len(truth))} not enough yet: no text could be evaluated out of sample."
        return GateDecision(False, "too-few", (reason,))
    counts = Counter(truth[key] for key in evaluated)
    order = {label: number for number, label in enumerate(candidate.labels)}
    most_frequent = min(counts, key=lambda label: (-counts[label], order.get(label, len(order)), label))
    right = {key for key in evaluated if _answer(candidate.labels, candidate.answers[key]) == truth[key]}
    fixed = sum(truth[key] != most_frequent for key in right)
    broken = sum(truth[key] == most_frequent for key in evaluated - right)
    is_better = sign_test(broken, fixed) < SIGNIFICANCE
    promote = is_better or (requested and sign_test(fixed, broken) >= SIGNIFICANCE)
    total = len(evaluated)
    figures = (
        f"accuracy {_accuracy(len(right), total)}; always answering {mention(most_frequent)} gets "
        f"{_accuracy(counts[most_frequent], total)}."
    )
    if is_better:
        reason = f"Promoted: first version: {figures}"
    elif promote:
        reason = (
            "Promoted: a person requested it, and it is not significantly worse than the most frequent label: "
            f"{figures}"
        )
    else:
        reason = f"Held: {_labels(len(truth))} not enough yet: {figures}"
    return GateDecision(promote, "first" if promote else "too-few", (reason,), None, total, fixed, broken)


def replace_incomparable(first: GateDecision, compared_with: str, why: str) -> GateDecision:
    """Return the decision if what is served has no answers to the same question: that of a first version. `why`: "is …"."""
    return replace(first, reasons=(*first.reasons, f"{compared_with} {why}."), compared_with=compared_with)


def decide(
    pairs: Pairs,
    *,
    same_method: bool,
    labels_removed: tuple[str, ...],
    compared_with: str,
    requested: bool = False,
    replaces_names: bool = False,
) -> GateDecision:
    """Decide if `compared_with` is served; `labels_removed` are those of its labels that the label config no longer has.

    `requested`: a person requested this version, so that it is not held for being made by another method. `replaces_names`:
    `compared_with` was made from label names only.
    """
    b, c, only_veto = pairs.fixed, pairs.broken, same_method or requested
    least_pairs = MIN_NAMES_PAIRS_OF_SETS if pairs.of_sets else MIN_NAMES_PAIRS
    names_pairs = 0 if sign_test(c, b) < BEYOND_DOUBT else least_pairs
    min_pairs = names_pairs if replaces_names else MIN_PAIRS
    worse_labels = _worse_labels(pairs)
    if labels_removed:
        kind, reasons = "labels-changed", [_removed(labels_removed, compared_with)]
    elif only_veto and c > b and sign_test(b, c) < SIGNIFICANCE:
        kind, reasons = "worse", [_broke(pairs, compared_with)]
    elif not only_veto and pairs.total < min_pairs:
        kind = "too-few"
        reasons = [f"Held: another method must be better on {min_pairs} texts or more: {_figures(pairs)}"]
    elif not only_veto and b <= c:
        kind = "not-better"
        reasons = [f"Held: the other method is not better than {compared_with}: {_figures(pairs)}"]
    elif worse_labels:
        kind, reasons = "label-worse", [_label_broke(pairs, label) for label in worse_labels]
    else:
        kind = "better" if b > c else "not-worse"
        reasons = [_promoted(pairs, compared_with, requested=requested and not same_method)]
    promote = kind in ("labels-changed", "better", "not-worse")
    return GateDecision(promote, kind, tuple(reasons), compared_with, pairs.total, b, c)


def _worse_labels(pairs: Pairs) -> list[str]:
    """Return labels that are significantly worse by themselves, the worst first."""
    bound = LABEL_SIGNIFICANCE / max(1, len(pairs.per_label))
    found = [
        (sign_test(b, c), label)
        for label, (b, c, total) in pairs.per_label.items()
        if total >= MIN_LABEL_PAIRS and c > b and label not in pairs.improved
    ]
    return [label for p, label in sorted(found) if p < bound]


def _answer(labels: Sequence[str], probabilities: Sequence[float]) -> str | None:
    """Return the most probable label, the first of equals; None without probabilities."""
    best = max(range(len(probabilities)), key=probabilities.__getitem__, default=None)
    return None if best is None else labels[best]


def _labels(count: int) -> str:
    return "1 label is" if count == 1 else f"{count} labels are"


def _were(count: int) -> str:
    return "1 was" if count == 1 else f"{count} were"


def _accuracy(right: int, total: int) -> str:
    return f"{100 * right / total:.0f} % ({right} of {total})"


def _figures(pairs: Pairs) -> str:
    return f"{pairs.fixed} fixed, {pairs.broken} broken of {plural(pairs.total)}."


def _promoted(pairs: Pairs, compared_with: str, *, requested: bool) -> str:
    if not pairs.total:
        return f"Promoted: there is no text on which to compare it with {compared_with}."
    if requested:
        return (
            f"Promoted: a person requested it, and it is not significantly worse than {compared_with}, which another method "
            f"made: {_figures(pairs)}"
        )
    return f"Promoted: {_figures(pairs)}"


def _removed(labels: Sequence[str], compared_with: str) -> str:
    verb, pronoun = ("is", "it") if len(labels) == 1 else ("are", "them")
    return f"Promoted: {mention_all(labels)} {verb} no longer in the label config, and {compared_with} still answers {pronoun}."


def _broke(pairs: Pairs, compared_with: str) -> str:
    worst = min(pairs.per_label, key=lambda label: (sign_test(*pairs.per_label[label][:2]), label))
    _, broken, total = pairs.per_label[worst]
    of_label = f"; worst: {mention(worst)}, {broken} of {total} broke" if broken else ""
    return (
        f"Held: significantly worse than {compared_with} (sign test, p = {sign_test(pairs.fixed, pairs.broken):.2g}): "
        f"{plural(pairs.broken)} broke and {_were(pairs.fixed)} fixed, of {pairs.total}{of_label}."
    )


def _label_broke(pairs: Pairs, label: str) -> str:
    fixed, broken, total = pairs.per_label[label]
    texts = plural(total) + (" that have it or were given it" if pairs.of_sets else "")
    return (
        f"Held: significantly worse on {mention(label)} (sign test, p = {sign_test(fixed, broken):.2g}): {broken} of {texts} broke and "
        f"{_were(fixed)} fixed; in all {_figures(pairs)}"
    )
