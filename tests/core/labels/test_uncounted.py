"""Messages about annotations and tasks that do not count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace, Uncounted
from services.core.labels.uncounted import (
    ANNOTATION_REASONS,
    Cause,
    plural,
    quote,
    summarise,
    uncounted_message,
    uncounted_phrases,
)

SPACE = LabelSpace("topic", "text", "$text", ("shipping", "refund", "ret"), shown={"Return": "ret"})
ADVICE = (
    " An annotation counts only if it contains a choice exactly as written (its alias, if it has one): correct the annotations or "
    "the label config."
)


def message_of(causes: dict[Cause, int]) -> str:
    return uncounted_message(summarise(causes, SPACE), SPACE.control)


@pytest.mark.parametrize(
    ("causes", "words"),
    [
        ({}, ""),
        ({Cause("cancelled"): 1}, "1 annotation does not count: skipped."),
        (
            {Cause("cancelled"): 1, Cause("empty"): 2},
            "3 annotations do not count: 2 without an answer, 1 skipped.",
        ),
        (
            {Cause("other_spelling", "Shipping"): 20, Cause("other_control", "other"): 4},
            '24 annotations do not count: 20 with a label that <Choices name="topic"> spells differently ("Shipping" for '
            '"shipping"), 4 of a control other than <Choices name="topic"> ("other").' + ADVICE,
        ),
        (
            {Cause("value_for_alias", "Return"): 3},
            '3 annotations do not count: with the value of a choice in <Choices name="topic"> whose alias is stored '
            'instead ("Return" for "ret").' + ADVICE,
        ),
        (
            {Cause("foreign_label", "refunds"): 1, Cause("foreign_label", "fruit"): 2},
            '3 annotations do not count: with a label that <Choices name="topic"> does not have ("fruit"; "refunds": did '
            'you mean "refund"?).' + ADVICE,
        ),
        (
            {Cause("tied"): 2},
            "2 annotations do not count: tied with an annotation with another label, so another opinion is needed.",
        ),
        (
            {Cause("cancelled"): 2, Cause("no_text"): 3, Cause("draft"): 1},
            (
                "2 annotations do not count: skipped. 3 tasks do not count: without a text. 1 draft does not count: not "
                "submitted."
            ),
        ),
        (
            {Cause("deleted_task"): 1, Cause("changed_text"): 2},
            (
                "3 tasks do not count: 1 deleted since the run was requested, 2 with a text that was edited since the run was "
                "requested."
            ),
        ),
        ({Cause("comet"): 2}, "2 cases do not count: for reason 'comet'."),
    ],
)
def test_the_sentence(causes: dict[Cause, int], words: str) -> None:
    assert message_of(causes) == words


def test_the_same_reason_by_itself() -> None:
    found = [Uncounted("foreign_label", 1, ('"gone"',)), Uncounted("no_text", 2)]
    assert uncounted_phrases(found, SPACE.control) == [
        '1 annotation with a label that <Choices name="topic"> does not have ("gone")',
        "2 tasks without a text",
    ]
    assert uncounted_phrases(found[:1], "") == [
        '1 annotation with a label that the label config does not have ("gone")'
    ]


def test_only_a_few_examples_are_named_the_commonest_first() -> None:
    causes = {
        Cause("foreign_label", name): count for name, count in zip("vwxyz", (1, 5, 3, 4, 2), strict=True)
    }
    assert summarise(causes, SPACE) == (Uncounted("foreign_label", 15, ('"w"', '"y"', '"x"')),)


def test_an_example_is_cut_and_shows_line_breaks() -> None:
    assert quote("a\nb\x00") == '"a\\nb\\u0000"'
    assert quote("दिन") == '"दिन"'
    assert quote("x" * 50) == f'"{"x" * 40}…"'
    assert quote("\ud83d") == '"?"'


CAUSES = st.dictionaries(
    st.builds(Cause, st.sampled_from([*ANNOTATION_REASONS, "no_text", "comet"]), st.text(max_size=5)),
    st.integers(0, 9),
)


@given(CAUSES)
def test_the_sums_do_not_depend_on_order(causes: dict[Cause, int]) -> None:
    found = summarise(causes, SPACE)
    assert sum(row.count for row in found) == sum(causes.values())
    assert summarise(dict(reversed(causes.items())), SPACE) == found
    assert bool(uncounted_message(found, "topic")) == bool(found)
    for row in found:
        assert any(str(row.count) in phrase for phrase in uncounted_phrases(found, SPACE.control))


def test_numbers_are_written_as_numbers() -> None:
    assert (plural(0), plural(1), plural(2, "task")) == ("0 texts", "1 text", "2 tasks")
