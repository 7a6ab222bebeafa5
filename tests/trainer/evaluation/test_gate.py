"""evaluation.gate: decisions with their reasons, and properties for any counts."""

from __future__ import annotations

from itertools import product
from math import comb
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from services.core.domain import GateDecision, OutOfSample
from services.trainer.evaluation.gate import (
    BEYOND_DOUBT,
    MIN_LABEL_PAIRS,
    MIN_NAMES_PAIRS,
    Pairs,
    decide,
    decide_first,
    pair_up,
    sign_test,
)


def pairs_of(**per_label: tuple[int, int, int]) -> Pairs:
    """(fixed, broken, total) of each label."""
    fixed, broken, total = (sum(row[place] for row in per_label.values()) for place in range(3))
    return Pairs(fixed, broken, total, per_label)


def judged(
    pairs: Pairs, *, same_method: bool = True, removed: tuple[str, ...] = (), asked: bool = False
) -> GateDecision:
    return decide(
        pairs, same_method=same_method, labels_removed=removed, compared_with="shop-3", requested=asked
    )


def against_names(pairs: Pairs, *, asked: bool = False) -> GateDecision:
    """Compare with a version from label names only."""
    return decide(
        pairs,
        same_method=False,
        labels_removed=(),
        compared_with="shop-label-names-only-1",
        requested=asked,
        replaces_names=True,
    )


def answers(labels: str, given_by_key: dict[str, str], **more: Any) -> OutOfSample:
    """Answers that are sure of one label: key to label."""
    rows = {key: tuple(float(label == name) for name in labels) for key, label in given_by_key.items()}
    return OutOfSample(tuple(labels), "cross-fit", rows, **more)


# ------------------------------------------------------------------------------------------------------ the sign test
@given(st.integers(0, 3_000), st.integers(0, 3_000))
def test_sign_test_equals_scipys_binomial(b: int, c: int) -> None:
    assert sign_test(b, c) == pytest.approx(float(binom.cdf(b, b + c, 0.5)), rel=1e-9, abs=1e-290)


@given(st.integers(0, 300), st.integers(0, 300))
def test_sign_test_is_symmetric(b: int, c: int) -> None:
    both = comb(b + c, b) / 2 ** (b + c)
    assert sign_test(b, c) + sign_test(c, b) == pytest.approx(1 + both)
    assert sign_test(b, 0) == 1.0
    assert sign_test(0, c) == 0.5**c


@given(st.integers(0, 200), st.integers(0, 200))
def test_sign_test_is_monotonic(b: int, c: int) -> None:
    assert sign_test(b + 1, c) >= sign_test(b, c) >= sign_test(b, c + 1)


# ----------------------------------------------------------------------------------------------------- the properties
ROWS = st.integers(0, 60).flatmap(
    lambda n: st.integers(0, n).flatmap(lambda b: st.tuples(st.just(b), st.integers(0, n - b), st.just(n)))
)
PAIRS = st.dictionaries(st.sampled_from("ABCDE"), ROWS, max_size=5).map(lambda rows: pairs_of(**rows))


def changed(pairs: Pairs, label: str, fixed: int, broken: int) -> Pairs:
    b, c, n = pairs.per_label[label]
    assume(b + fixed >= 0 <= c + broken and b + c + fixed + broken <= n)
    return pairs_of(**{**pairs.per_label, label: (b + fixed, c + broken, n)})


@given(PAIRS, st.booleans(), st.data())
def test_more_fixed_texts_never_cause_a_hold(pairs: Pairs, same: bool, data: st.DataObject) -> None:
    assume(pairs.per_label)
    label = data.draw(st.sampled_from(sorted(pairs.per_label)))
    better = changed(pairs, label, *data.draw(st.sampled_from([(1, 0), (0, -1), (1, -1)])))
    assert judged(better, same_method=same).promote >= judged(pairs, same_method=same).promote


@given(PAIRS, st.booleans(), st.data())
def test_more_broken_texts_never_cause_a_promotion(pairs: Pairs, same: bool, data: st.DataObject) -> None:
    assume(pairs.per_label)
    label = data.draw(st.sampled_from(sorted(pairs.per_label)))
    worse = changed(pairs, label, *data.draw(st.sampled_from([(0, 1), (-1, 0), (-1, 1)])))
    assert judged(worse, same_method=same).promote <= judged(pairs, same_method=same).promote


@given(PAIRS)
def test_same_method_is_held_only_for_broken_texts(pairs: Pairs) -> None:
    decision = judged(pairs)
    if pairs.fixed >= pairs.broken:
        assert decision.promote or decision.kind == "label-worse"


@given(PAIRS)
def test_another_method_needs_100_pairs_and_more_fixed(pairs: Pairs) -> None:
    if judged(pairs, same_method=False).promote:
        assert pairs.total >= 100
        assert pairs.fixed > pairs.broken


@given(PAIRS)
def test_same_method_is_promoted_if_another_one_is(pairs: Pairs) -> None:
    assert judged(pairs, same_method=True).promote >= judged(pairs, same_method=False).promote


@given(PAIRS, st.booleans())
def test_removed_labels_always_promote(pairs: Pairs, same: bool) -> None:
    decision = judged(pairs, same_method=same, removed=("old",))
    assert (decision.promote, decision.kind) == (True, "labels-changed")


@given(PAIRS, st.booleans())
def test_reasons_are_sentences(pairs: Pairs, same: bool) -> None:
    decision = judged(pairs, same_method=same)
    assert (decision.pairs, decision.fixed, decision.broken) == (pairs.total, pairs.fixed, pairs.broken)
    assert decision.compared_with == "shop-3"
    assert decision.kind in ("not-worse", "better", "worse", "label-worse", "not-better", "too-few")
    for reason in decision.reasons:
        assert reason.startswith("Promoted: " if decision.promote else "Held: ")
        assert reason.endswith(".")


@given(st.integers(0, 9), st.integers(0, 9), st.booleans())
def test_a_label_under_ten_pairs_is_not_tested_alone(fixed: int, broken: int, same: bool) -> None:
    assume(fixed + broken < MIN_LABEL_PAIRS)
    assert judged(pairs_of(A=(fixed, broken, 9), B=(60, 0, 200)), same_method=same).promote


# ------------------------------------------------------------------------------------------------ the table, in words
@pytest.mark.parametrize(
    ("pairs", "same", "removed", "kind", "reasons"),
    [
        (
            pairs_of(refund=(1, 9, 26), other=(13, 22, 376)),
            True,
            (),
            "worse",
            [
                "Held: significantly worse than shop-3 (sign test, p = 0.008): 31 texts broke and 14 were fixed, of 402; worst: 'refund', 9 of 26 broke."
            ],
        ),
        (
            pairs_of(A=(1, 7, 30), B=(0, 0, 5)),
            True,
            (),
            "worse",
            [
                "Held: significantly worse than shop-3 (sign test, p = 0.035): 7 texts broke and 1 was fixed, of 35; worst: 'A', 7 of 30 broke."
            ],
        ),
        (pairs_of(A=(12, 5, 240)), True, (), "better", ["Promoted: 12 fixed, 5 broken of 240 texts."]),
        (pairs_of(A=(5, 5, 60)), True, (), "not-worse", ["Promoted: 5 fixed, 5 broken of 60 texts."]),
        (pairs_of(A=(8, 13, 60)), True, (), "not-worse", ["Promoted: 8 fixed, 13 broken of 60 texts."]),
        (
            pairs_of(A=(0, 0, 0)),
            True,
            (),
            "not-worse",
            ["Promoted: there is no text on which to compare it with shop-3."],
        ),
        (
            pairs_of(refund=(1, 9, 26), other=(12, 5, 376)),
            True,
            (),
            "label-worse",
            [
                "Held: significantly worse on 'refund' (sign test, p = 0.011): 9 of 26 texts broke and 1 was fixed; in all 13 fixed, 14 broken of 402 texts."
            ],
        ),
        (
            pairs_of(A=(60, 9, 99)),
            False,
            (),
            "too-few",
            ["Held: another method must be better on 100 texts or more: 60 fixed, 9 broken of 99 texts."],
        ),
        (
            pairs_of(A=(9, 9, 100)),
            False,
            (),
            "not-better",
            ["Held: the other method is not better than shop-3: 9 fixed, 9 broken of 100 texts."],
        ),
        (pairs_of(A=(10, 9, 100)), False, (), "better", ["Promoted: 10 fixed, 9 broken of 100 texts."]),
        (
            pairs_of(A=(0, 40, 100)),
            True,
            ("old",),
            "labels-changed",
            ["Promoted: 'old' is no longer in the label config, and shop-3 still answers it."],
        ),
        (
            pairs_of(A=(0, 40, 100)),
            False,
            ("old", "older"),
            "labels-changed",
            ["Promoted: 'old', 'older' are no longer in the label config, and shop-3 still answers them."],
        ),
    ],
)
def test_decisions_and_their_reasons(
    pairs: Pairs, same: bool, removed: tuple[str, ...], kind: str, reasons: list[str]
) -> None:
    decision = judged(pairs, same_method=same, removed=removed)
    assert (decision.kind, list(decision.reasons)) == (kind, reasons)


def test_label_significance_is_divided_by_the_labels() -> None:
    """0 of 5 is .031: under .05, and over .05 / 2. The other label keeps the sum from being worse."""
    row = (0, 5, 20)
    assert sign_test(0, 5) < 0.05
    assert judged(pairs_of(A=row)).kind == "worse"
    assert judged(pairs_of(A=row, B=(5, 0, 20))).promote
    assert judged(pairs_of(A=(0, 6, 20), B=(6, 0, 20))).kind == "label-worse"
    assert judged(pairs_of(A=(0, 6, 20), B=(6, 0, 20), C=(0, 0, 0), D=(0, 0, 0))).promote


def test_names_every_worse_label_the_worst_first() -> None:
    reasons = judged(pairs_of(A=(0, 8, 30), B=(0, 12, 30), C=(40, 0, 90))).reasons
    assert [reason.split("'")[1] for reason in reasons] == ["B", "A"]


# ------------------------------------------------------------------------------------------------------------ pairing
TRUTH = {"k1": "A", "k2": "A", "k3": "B", "k4": "B"}


def test_pairs_use_todays_labels() -> None:
    candidate = answers("AB", {"k1": "A", "k2": "B", "k3": "B", "k4": "B", "gone": "A"})
    current = answers("AB", {"k1": "B", "k2": "A", "k3": "B", "gone": "A"}, trained_keys=tuple(TRUTH))
    assert pair_up(candidate, current, TRUTH, None) == Pairs(1, 1, 3, {"A": (1, 1, 2), "B": (0, 0, 1)})


def test_fresh_answers_count_for_unseen_texts() -> None:
    candidate, current = answers("AB", {"k4": "B"}), answers("BA", {})
    assert pair_up(candidate, current, TRUTH, {"k4": (0.2, 0.8)}).fixed == 1
    assert pair_up(candidate, current, TRUTH, {"k4": (0.8, 0.2)}).fixed == 0
    assert pair_up(candidate, current, TRUTH, {}).total == 0


def test_no_fresh_answers_for_texts_current_trained_on() -> None:
    candidate, current = answers("AB", {"k4": "B"}), answers("AB", {}, trained_keys=("k4",))
    assert pair_up(candidate, current, TRUTH, {"k4": (0.9, 0.1)}).total == 0


@pytest.mark.parametrize(
    "current", [answers("AC", {"k3": "C"}), answers("AC", {}), answers("A", {}, trained_keys=("k3",))]
)
def test_current_is_wrong_on_new_labels(current: OutOfSample) -> None:
    assert pair_up(answers("AB", {"k3": "B"}), current, TRUTH, None) == Pairs(
        1, 0, 1, {"A": (0, 0, 0), "B": (1, 0, 1)}
    )


def test_orders_of_labels_may_differ_between_versions() -> None:
    candidate, current = answers("AB", {"k1": "A", "k3": "A"}), answers("CBA", {"k1": "A", "k3": "B"})
    assert pair_up(candidate, current, TRUTH, None) == Pairs(0, 1, 2, {"A": (0, 0, 1), "B": (0, 1, 1)})


def test_candidate_is_wrong_on_labels_it_does_not_know() -> None:
    assert pair_up(answers("A", {"k3": "A"}), answers("AB", {"k3": "B"}), TRUTH, None).broken == 1


def test_an_answer_without_probabilities_is_wrong() -> None:
    current = OutOfSample(("A", "B"), "cross-fit", {"k1": ()})
    assert pair_up(answers("AB", {"k1": "A"}), current, TRUTH, None).fixed == 1


@given(st.lists(st.tuples(st.sampled_from("AB"), st.sampled_from("AB"), st.sampled_from("AB")), max_size=30))
def test_swapping_both_versions_swaps_fixed_and_broken(rows: list[tuple[str, str, str]]) -> None:
    truth = {f"k{number}": row[0] for number, row in enumerate(rows)}
    one, other = (answers("AB", {f"k{n}": row[place] for n, row in enumerate(rows)}) for place in (1, 2))
    forth, back = pair_up(one, other, truth, None), pair_up(other, one, truth, None)
    assert (forth.fixed, forth.broken, forth.total) == (back.broken, back.fixed, len(rows))
    assert pair_up(one, one, truth, None).fixed == pair_up(one, one, truth, None).broken == 0


@pytest.mark.parametrize(
    ("pairs", "same", "kind", "reason"),
    [
        (
            pairs_of(A=(3, 3, 24)),
            False,
            "not-worse",
            (
                "Promoted: a person requested it, and it is not significantly worse than shop-3, which another method made: "
                "3 fixed, 3 broken of 24 texts."
            ),
        ),
        (pairs_of(A=(3, 3, 24)), True, "not-worse", "Promoted: 3 fixed, 3 broken of 24 texts."),
        (
            pairs_of(A=(0, 0, 0)),
            False,
            "not-worse",
            "Promoted: there is no text on which to compare it with shop-3.",
        ),
        (
            pairs_of(A=(1, 9, 24)),
            False,
            "worse",
            "Held: significantly worse than shop-3 (sign test, p = 0.011): 9 texts broke and 1 was fixed, of 24; worst: 'A', 9 of 24 broke.",
        ),
    ],
)
def test_requested_versions_are_held_only_if_worse(pairs: Pairs, same: bool, kind: str, reason: str) -> None:
    decision = judged(pairs, same_method=same, asked=True)
    assert (decision.kind, decision.reasons) == (kind, (reason,))


@given(PAIRS, st.booleans())
def test_requested_versions_are_decided_as_same_method(pairs: Pairs, same: bool) -> None:
    assert judged(pairs, same_method=same, asked=True).kind == judged(pairs).kind


# --------------------------------------------------------------------------------------------------- the first version
def first(counts: dict[tuple[str, str], int], labels: str = "ABC", *, asked: bool = False) -> GateDecision:
    """A decision on texts: (true label, answer) to how many."""
    rows = [pair for pair, count in counts.items() for _ in range(count)]
    keys = [f"k{number}" for number in range(len(rows))]
    candidate = answers(labels, {key: answer for key, (_, answer) in zip(keys, rows, strict=True)})
    truth = {key: true for key, (true, _) in zip(keys, rows, strict=True)}
    return decide_first(candidate, truth, requested=asked)


def test_first_version_must_beat_the_most_frequent_label() -> None:
    counts = {("A", "A"): 15, ("A", "B"): 5, ("B", "B"): 12, ("B", "A"): 3}
    assert first(counts) == GateDecision(
        True,
        "first",
        ("Promoted: first version: accuracy 77 % (27 of 35); always answering 'A' gets 57 % (20 of 35).",),
        None,
        35,
        12,
        5,
    )


def test_first_version_is_held_if_not_better() -> None:
    decision = first({("A", "A"): 18, ("A", "B"): 2, ("B", "B"): 2, ("B", "A"): 8})
    assert (decision.promote, decision.kind) == (False, "too-few")
    assert decision.reasons == (
        "Held: 30 labels are not enough yet: accuracy 67 % (20 of 30); always answering 'A' gets 67 % (20 of 30).",
    )


def test_requested_first_version_may_be_equal() -> None:
    decision = first({("A", "A"): 18, ("A", "B"): 2, ("B", "B"): 2, ("B", "A"): 8}, asked=True)
    assert (decision.promote, decision.kind) == (True, "first")
    assert decision.reasons == (
        (
            "Promoted: a person requested it, and it is not significantly worse than the most frequent label: "
            "accuracy 67 % (20 of 30); always answering 'A' gets 67 % (20 of 30)."
        ),
    )
    assert not first({("A", "A"): 12, ("A", "B"): 8, ("B", "A"): 10}, asked=True).promote


def test_reason_for_a_single_label() -> None:
    assert first({("A", "A"): 1}).reasons == (
        "Held: 1 label is not enough yet: accuracy 100 % (1 of 1); always answering 'A' gets 100 % (1 of 1).",
    )


def test_most_frequent_label_is_the_first_of_equals() -> None:
    assert "'B'" in first({("A", "A"): 3, ("B", "B"): 3}, labels="CBA").reasons[0]
    assert "'Z'" in first({("Z", "A"): 3, ("A", "A"): 2}, labels="A").reasons[0]


def test_first_version_without_evaluation_is_held() -> None:
    decision = decide_first(answers("AB", {"other": "A"}), TRUTH)
    assert (decision.promote, decision.kind, decision.pairs) == (False, "too-few", 0)
    assert decision.reasons == (
        "Held: 4 labels are not enough yet: no text could be evaluated out of sample.",
    )


def test_first_version_needs_a_significant_difference() -> None:
    for fixed, broken in product(range(8), range(8)):
        decision = first({("A", "A"): 10, ("B", "B"): fixed, ("A", "B"): broken})
        assert decision.promote == (sign_test(broken, fixed) < 0.1)
    assert first({("A", "A"): 10, ("B", "B"): 4}).promote
    assert not first({("A", "A"): 10, ("B", "B"): 3}).promote


# ------------------------------------------------------------------------------------------------ against label names
@given(st.integers(0, 60), st.integers(0, 60), st.integers(0, 60))
def test_label_names_are_replaced_by_what_is_right_more_often(fixed: int, broken: int, others: int) -> None:
    """On 40 texts or more, or beyond doubt."""
    total = fixed + broken + others
    found = against_names(pairs_of(a=(fixed, broken, total)))
    is_enough = total >= MIN_NAMES_PAIRS or sign_test(broken, fixed) < BEYOND_DOUBT
    assert found.promote == (fixed > broken and is_enough)
    assert found.kind == ("better" if found.promote else "not-better" if is_enough else "too-few")
    assert found.compared_with == "shop-label-names-only-1"


def test_lying_names_are_replaced_by_few_labels() -> None:
    assert against_names(pairs_of(a=(7, 0, 10))).promote
    assert not against_names(pairs_of(a=(6, 0, 10))).promote


def test_nothing_to_compare_keeps_label_names() -> None:
    assert against_names(pairs_of()).kind == "too-few"


def test_requested_version_replaces_label_names_unless_worse() -> None:
    assert against_names(pairs_of(a=(2, 2, 9)), asked=True).promote
    assert not against_names(pairs_of(a=(0, 9, 9)), asked=True).promote
