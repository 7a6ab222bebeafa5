"""Promote or hold: the one decision whether annotators see a new version. Pure.

A veto, not a prize: a version by the same method goes through unless it is clearly worse, on all texts or on one label,
and so does one that a person asked for; another method has to be better on 100 texts or more. Reasons are sentences for
an annotation lead.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from services.core.domain import GateDecision, OutOfSample
from services.core.labels.uncounted import plural

SIGNIFICANCE: Final = 0.10
"""A result this unlikely by chance is a difference, over all texts."""
LABEL_SIGNIFICANCE: Final = 0.05
"""The same for one label, shared among all labels."""
MIN_PAIRS: Final = 100
"""Texts on which another method must be better."""
MIN_LABEL_PAIRS: Final = 10
"""Texts of a label below which it is not judged alone."""


@dataclass(frozen=True, slots=True)
class Change:
    """A text on which one of two versions is right and the other wrong."""

    key: str
    before: str | None
    """Current's answer; None where the true label is new to it, so that it was not asked."""
    now: str | None
    """The candidate's."""


@dataclass(frozen=True, slots=True)
class Pairs:
    """Texts that both versions have answered without having learnt them."""

    fixed: int
    """Candidate right, current wrong."""
    broken: int
    """Candidate wrong, current right."""
    total: int
    per_label: dict[str, tuple[int, int, int]]
    """True label to (fixed, broken, total); labels without a pair stand here as well."""
    fixed_texts: tuple[Change, ...] = field(default=(), compare=False)
    broken_texts: tuple[Change, ...] = field(default=(), compare=False)


def sign_test(b: int, c: int) -> float:
    """P(X <= b) for X ~ Binomial(b + c, 1/2), exactly; 1.0 for no toss at all."""
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
    """Compare on today's labels (text key to label).

    `fresh` are current's answers now, in the order of its labels, and count only for texts that it never saw. Where the
    true label is new to current, current is wrong without being asked.
    """
    counts = {label: [0, 0, 0] for label in candidate.labels}
    fixed_texts: list[Change] = []
    broken_texts: list[Change] = []
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


def decide_first(candidate: OutOfSample, truth: Mapping[str, str], *, asked: bool = False) -> GateDecision:
    """Where nothing is served: it has to be right more often than always saying the commonest label.

    `asked`: a person asked for this version; then it may not be clearly worse than that.
    """
    judged = candidate.answers.keys() & truth.keys()
    if not judged:
        reason = f"Held: {_labels(len(truth))} not enough yet: no text could be judged by a model that had not learnt it."
        return GateDecision(False, "too-few", (reason,))
    counts = Counter(truth[key] for key in judged)
    commonest = min(counts, key=lambda label: (-counts[label], _place(candidate.labels, label), label))
    right = {key for key in judged if _answer(candidate.labels, candidate.answers[key]) == truth[key]}
    fixed = sum(truth[key] != commonest for key in right)
    broken = sum(truth[key] == commonest for key in judged - right)
    is_better = sign_test(broken, fixed) < SIGNIFICANCE
    promote = is_better or (asked and sign_test(fixed, broken) >= SIGNIFICANCE)
    figures = (
        f"right {len(right)} of {len(judged)}, always saying {commonest!r} would be right "
        f"{'once' if counts[commonest] == 1 else f'{counts[commonest]} times'}."
    )
    if is_better:
        reason = f"Promoted: first version: {figures}"
    elif promote:
        reason = (
            f"Promoted: a person asked for it, and it is not clearly worse than one answer for all: {figures}"
        )
    else:
        reason = f"Held: {_labels(len(truth))} not enough yet: {figures}"
    kind = "first" if promote else "too-few"
    return GateDecision(promote, kind, (reason,), None, len(judged), fixed, broken)


def replace_other_control(first: GateDecision, compared_with: str) -> GateDecision:
    """Where what is served answers another control: the candidate is judged as a first version, and takes that one's place."""
    reasons = (*first.reasons, f"{compared_with} was made for another control.")
    return replace(first, reasons=reasons, compared_with=compared_with)


def decide(
    pairs: Pairs,
    *,
    same_method: bool,
    labels_removed: tuple[str, ...],
    compared_with: str,
    asked: bool = False,
) -> GateDecision:
    """Where `compared_with` is served; `labels_removed` are those of its labels that the label config has no more.

    `asked`: a person asked for this version, which then is not held for having been made by another method.
    """
    b, c = pairs.fixed, pairs.broken
    only_veto = same_method or asked
    worse_labels = _worse_labels(pairs)
    if labels_removed:
        kind, reasons = "labels-changed", [_removed(labels_removed, compared_with)]
    elif only_veto and c > b and sign_test(b, c) < SIGNIFICANCE:
        kind, reasons = "worse", [_broke(pairs, compared_with)]
    elif not only_veto and pairs.total < MIN_PAIRS:
        kind, reasons = "too-few", [_too_few(pairs)]
    elif not only_veto and b <= c:
        kind, reasons = (
            "not-better",
            [f"Held: the other method is not better than {compared_with}: {_figures(pairs)}"],
        )
    elif worse_labels:
        kind, reasons = "label-worse", [_label_broke(pairs, label) for label in worse_labels]
    else:
        of_other_method = not same_method
        kind = "better" if b > c else "not-worse"
        reasons = [_promoted(pairs, compared_with, asked=asked and of_other_method)]
    promote = kind in ("labels-changed", "better", "not-worse")
    return GateDecision(promote, kind, tuple(reasons), compared_with, pairs.total, b, c)


def _worse_labels(pairs: Pairs) -> list[str]:
    """Labels that are clearly worse by themselves, the worst first."""
    bound = LABEL_SIGNIFICANCE / max(1, len(pairs.per_label))
    found = [
        (sign_test(b, c), label)
        for label, (b, c, total) in pairs.per_label.items()
        if total >= MIN_LABEL_PAIRS and c > b
    ]
    return [label for p, label in sorted(found) if p < bound]


def _answer(labels: Sequence[str], probabilities: Sequence[float]) -> str | None:
    """The likeliest label, the first of equals; None for no answer at all."""
    best = max(range(len(probabilities)), key=probabilities.__getitem__, default=None)
    return None if best is None else labels[best]


def _place(labels: Sequence[str], label: str) -> int:
    return labels.index(label) if label in labels else len(labels)


def _labels(count: int) -> str:
    return "1 label is" if count == 1 else f"{count} labels are"


def _were(count: int) -> str:
    return "1 was" if count == 1 else f"{count} were"


def _figures(pairs: Pairs) -> str:
    return f"{pairs.fixed} fixed, {pairs.broken} broken of {plural(pairs.total)}."


def _promoted(pairs: Pairs, compared_with: str, *, asked: bool) -> str:
    if not pairs.total:
        return f"Promoted: no text could be compared with {compared_with}, so nothing speaks against it."
    if asked:
        return (
            f"Promoted: a person asked for it, and it is not clearly worse than {compared_with}, which another method "
            f"made: {_figures(pairs)}"
        )
    return f"Promoted: {_figures(pairs)}"


def _removed(labels: Sequence[str], compared_with: str) -> str:
    names = ", ".join(repr(label) for label in labels)
    verb, pronoun = ("is", "it") if len(labels) == 1 else ("are", "them")
    return f"Promoted: {names} {verb} no longer in the label config, and {compared_with} still answers {pronoun}."


def _too_few(pairs: Pairs) -> str:
    return f"Held: another method is judged on {MIN_PAIRS} texts or more: {_figures(pairs)}"


def _broke(pairs: Pairs, compared_with: str) -> str:
    worst = min(pairs.per_label, key=lambda label: (sign_test(*pairs.per_label[label][:2]), label))
    _, broken, total = pairs.per_label[worst]
    return (
        f"Held: clearly worse than {compared_with}: {plural(pairs.broken)} broke and {_were(pairs.fixed)} fixed, "
        f"of {pairs.total}; "
        f"worst: {worst!r}, {broken} of {total} broke."
    )


def _label_broke(pairs: Pairs, label: str) -> str:
    fixed, broken, total = pairs.per_label[label]
    return f"Held: {label!r} got worse: {broken} of {plural(total)} broke and {_were(fixed)} fixed; in all {_figures(pairs)}"
