"""Which label names say something about a text, in any script."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace
from services.core.labels import parse_label_space
from services.core.labels.name_check import names_problem, telling_names


def _space(*names: str) -> LabelSpace:
    return LabelSpace("label", "text", "$text", names, names=names)


@pytest.mark.parametrize(
    "names",
    [
        ("refund", "delivery"),
        ("card arrival", "card lost"),
        ("no", "yes"),
        ("好评", "差评"),
        ("好", "坏"),
        ("शिकायत", "सवाल"),
        ("жалоба", "вопрос"),
        ("شكوى", "سؤال"),
        ("환불", "배송"),
        ("ร้องเรียน", "คำถาม"),
        ("1: refund", "2: delivery"),
    ],
)
def test_words_of_any_script_tell(names: tuple[str, ...]) -> None:
    assert all(telling_names(names))
    assert names_problem(_space(*names)) == ""


@pytest.mark.parametrize(
    "names",
    [
        ("1", "2", "3"),
        ("A", "B"),
        ("c1", "c2"),
        ("class 1", "class 2"),
        ("label a", "label b"),
        ("I", "II", "III", "IV"),
        ("1 star", "2 star"),
        ("👍", "👎"),
        ("-", "?"),
        ("same", "same"),
        ("я", "ю"),
    ],
)
def test_numbers_and_single_letters_tell_nothing(names: tuple[str, ...]) -> None:
    assert not any(telling_names(names))
    problem = names_problem(_space(*names))
    assert repr(names[0]) in problem
    assert "hint=" in problem


def test_a_few_silent_names_are_no_problem() -> None:
    space = _space("refund", "delivery", "n/a", "x")
    assert telling_names(space.names) == (True, True, False, False)
    assert names_problem(space) == ""
    assert "3 of 5" in names_problem(_space("refund", "delivery", "n/a", "x", "7"))


def test_one_label_is_a_problem() -> None:
    assert "no two labels" in names_problem(_space("refund"))


def test_hint_makes_a_number_tell() -> None:
    config = '<View><Text name="t" value="$t"/><Choices name="c" toName="t">{}</Choices></View>'.format(
        "".join(
            f'<Choice value="{number}" hint="{hint}"/>'
            for number, hint in enumerate(("refund", "lost parcel"))
        )
    )
    assert names_problem(parse_label_space(config)) == ""
    assert names_problem(parse_label_space(config.replace("hint", "title")))


@given(st.lists(st.text(max_size=12), max_size=6))
def test_any_names_get_an_answer_each(names: list[str]) -> None:
    assert len(telling_names(names)) == len(names)
    assert isinstance(names_problem(_space(*names)), str)


def test_names_tell_where_a_text_may_have_several_labels() -> None:
    assert names_problem(replace(_space("refund", "delivery"), multiple=True)) == ""
    assert "'1'" in names_problem(replace(_space("1", "2"), multiple=True))


def test_ratings_are_not_suggested_from_their_names() -> None:
    space = parse_label_space('<View><Text name="t" value="$text"/><Rating name="r" toName="t"/></View>')
    assert names_problem(space).startswith(
        "There are no suggestions before the first labels: a rating is a number"
    )
    assert "hint" not in names_problem(space)
