"""The gate where a text may have several labels: what is compared, and the first decision."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import GateDecision, OutOfSample
from services.trainer.evaluation.gate import Change, decide
from services.trainer.evaluation.set_gate import chosen_labels, decide_first_sets, jaccard, pair_up_sets

LABELS = ("A", "B", "C")
Labels = tuple[str, ...]
SETS = st.sets(st.sampled_from(LABELS)).map(lambda found: tuple(sorted(found)))


def version(answers: dict[str, Labels], labels: Labels = LABELS, trained: Labels = ()) -> OutOfSample:
    """Build the answers of a version that chooses these labels."""
    rows = {key: tuple(0.9 if one in given else 0.1 for one in labels) for key, given in answers.items()}
    return OutOfSample(labels, "cross-fit", rows, trained, (0.5,) * len(labels))


@given(SETS, SETS)
def test_jaccard_is_1_for_equal_sets_alone(one: Labels, other: Labels) -> None:
    assert 0 <= jaccard(one, other) == jaccard(other, one) <= 1
    assert (jaccard(one, other) == 1) == (set(one) == set(other))


def test_each_label_has_its_threshold() -> None:
    found = OutOfSample(LABELS, "holdout", {}, (), (0.5, 0.2, 0.9))
    assert chosen_labels(found, (0.5, 0.3, 0.8)) == ("A", "B")


def test_a_text_is_fixed_if_its_answer_is_nearer() -> None:
    truth = {"1": ("A", "B"), "2": ("A",), "3": (), "4": ("C",)}
    before = version({"1": ("A",), "2": ("A",), "3": (), "4": ("C",)})
    now = version({"1": ("A", "B"), "2": ("A", "C"), "3": (), "4": ("C",), "5": ()})
    pairs = pair_up_sets(now, before, truth, None)
    assert (pairs.fixed, pairs.broken, pairs.total) == (1, 1, 4)
    assert pairs.fixed_texts == (Change("1", "A", "A, B"),)
    assert pairs.broken_texts == (Change("2", "A", "A, C"),)
    assert pairs.per_label == {"A": (0, 0, 2), "B": (1, 0, 1), "C": (0, 1, 2)}
    assert pairs.improved == {"B"}


def test_texts_that_current_was_trained_on_do_not_count() -> None:
    current = version({}, trained=("1",))
    fresh = {"1": (0.9, 0.1, 0.1), "2": (0.9, 0.1, 0.1)}
    pairs = pair_up_sets(version({"1": (), "2": ()}), current, {"1": ("A",), "2": ("A",)}, fresh)
    assert (pairs.broken, pairs.total) == (1, 1)


def test_a_label_new_to_current_counts_as_missed() -> None:
    current = version({"1": ("A",)}, labels=("A",))
    pairs = pair_up_sets(version({"1": ("A", "B")}), current, {"1": ("A", "B")}, None)
    assert (pairs.fixed, pairs.per_label["B"]) == (1, (1, 0, 1))


def compared(true: Sequence[Labels], before: Sequence[Labels], now: Sequence[Labels]) -> GateDecision:
    """Decide between two versions of one method by their answers for the same texts."""
    keys = [str(number) for number in range(len(true))]
    current, candidate = (version(dict(zip(keys, given, strict=True))) for given in (before, now))
    pairs = pair_up_sets(candidate, current, dict(zip(keys, true, strict=True)), None)
    return decide(pairs, same_method=True, labels_removed=(), compared_with="shop-1")


@pytest.mark.parametrize(("texts", "kind"), [(19, "too-few"), (20, "better")])
def test_version_from_names_is_replaced_by_a_better_one_on_20_texts(texts: int, kind: str) -> None:
    """Four of them are fixed and one is broken, which may be chance."""
    keys = [str(number) for number in range(texts)]
    one, two = ("A",), ("A", "B")
    truth: dict[str, Labels] = dict.fromkeys(keys, one)
    before: dict[str, Labels] = {key: two if key in keys[:4] else one for key in keys}
    now: dict[str, Labels] = {key: two if key == keys[4] else one for key in keys}
    pairs = pair_up_sets(version(now), version(before), truth, None)
    decision = decide(pairs, same_method=False, labels_removed=(), compared_with="names", replaces_names=True)
    assert (pairs.fixed, pairs.broken, decision.kind) == (4, 1, kind)


def test_a_label_given_to_everything_is_held() -> None:
    true = [("A", "B")] * 30 + [("A",)] * 20
    before = [("A",)] * 30 + [("A",)] * 20
    found = compared(true, before, [("A", "B", "C")] * 20 + [("A", "B")] * 20 + [("A",)] * 10)
    assert (found.promote, found.kind) == (False, "label-worse")
    assert "significantly worse on 'C'" in found.reasons[0]
    assert "20 of 20 texts that have it or were given it broke" in found.reasons[0]


def test_a_label_that_no_text_has_is_compared() -> None:
    true = [("A",)] * 40
    found = compared(true, [()] * 28 + [("A",)] * 12, [("A",)] * 28 + [("A", "C")] * 12)
    assert (found.fixed, found.broken, found.kind) == (28, 12, "label-worse")


def test_beginning_to_find_a_rare_label_is_better() -> None:
    true = [("A", "C")] * 10 + [("A",)] * 70
    before = [("A",)] * 10 + [("B",)] * 40 + [("A",)] * 30
    found = compared(true, before, [("A", "C")] * 10 + [("A",)] * 40 + [("A", "C")] * 30)
    assert (found.promote, found.fixed, found.broken) == (True, 50, 30)


def test_a_rare_label_for_every_text_is_worse() -> None:
    """Its F1 rises from nothing, and the texts are nearer in all: another label of theirs was mended."""
    true = [("A", "C")] * 10 + [("A", "B")] * 190
    found = compared(true, [("A",)] * 200, [("A", "C")] * 10 + [("A", "B", "C")] * 190)
    assert (found.promote, found.kind) == (False, "label-worse")


@pytest.mark.parametrize(
    ("answers", "promote", "kind"),
    [
        ({str(n): ("A",) if n % 2 else ("B",) for n in range(20)}, True, "first"),
        ({str(n): ("A",) for n in range(20)}, False, "too-few"),
        ({str(n): () for n in range(20)}, False, "too-few"),
        ({}, False, "too-few"),
    ],
)
def test_the_first_version_beats_one_answer_for_all(
    answers: dict[str, Labels], promote: bool, kind: str
) -> None:
    truth = {str(n): ("A",) if n % 2 else ("B",) for n in range(20)}
    found = decide_first_sets(version(answers), truth)
    assert (found.promote, found.kind) == (promote, kind)
    assert found.reasons[0].endswith(".")


def test_texts_without_a_label_may_be_the_answer_to_beat() -> None:
    truth = {str(n): ("A",) if n < 3 else () for n in range(20)}
    found = decide_first_sets(version(dict.fromkeys(truth, ())), truth)
    assert not found.promote
    assert "always answering no label shares 85 %" in found.reasons[0]


def test_what_a_person_asked_for_must_not_be_worse() -> None:
    truth = {str(n): ("A",) for n in range(20)}
    same = version(dict.fromkeys(truth, ("A",)))
    assert decide_first_sets(same, truth, requested=True).promote
    assert not decide_first_sets(version(dict.fromkeys(truth, ())), truth, requested=True).promote
