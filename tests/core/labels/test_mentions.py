"""Sentences stay readable whatever labels are called, and however many there are."""

from __future__ import annotations

from services.core.labels.mentions import mention, mention_all


def test_long_labels_are_cut() -> None:
    assert mention("x" * 1_000) == f"'{'x' * 80}…'"
    assert mention("card 'lost'") == "\"card 'lost'\""


def test_many_labels_are_counted() -> None:
    assert mention_all(["a", "b"]) == "'a', 'b'"
    assert mention_all(["a", "b", "c", "d", "e"]) == "'a', 'b', 'c' and 2 more"
