"""core.labels.names: labels as words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace
from services.core.labels import parse_label_space
from services.core.labels.names import clean_name, join_names, label_names

CONFIG = '<View><Text name="t" value="$body"/><Choices name="c" toName="t" {more}>{choices}</Choices></View>'


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("card_arrival", "card arrival"),
        ("cardArrival", "card arrival"),
        ("Card/Arrival", "card arrival"),
        ("card-arrival", "card arrival"),
        ("HTTPError", "http error"),
        ("top10Cards", "top10 cards"),
        ("iPhone", "iphone"),
        ("Home > Hearth", "home hearth"),
        ("sci.space", "sci space"),
        ("1.5 mg", "1.5 mg"),
        ("C++", "c++"),
        ("СрочныйПлатёж", "срочный платёж"),
        ("银行卡", "银行卡"),
        ("👍", "👍"),
        (" -- ", "--"),
    ],
)
def test_identifiers_become_words(written: str, name: str) -> None:
    assert clean_name(written) == name


@given(st.text(max_size=40))
def test_a_clean_name_stays_as_it_is(written: str) -> None:
    once = clean_name(written)
    assert clean_name(once) == once or not once.islower()  # some capitals have no small letter
    assert bool(once) == bool(written.strip())


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        ('<Choice value="Late delivery"/>', "late delivery"),
        ('<Choice value="Late delivery" alias="late_delivery"/>', "late delivery"),
        ('<Choice value="Late" alias="delivery_delay"/>', "delivery delay, late"),
        ('<Choice value="Late delivery" alias="c1"/>', "late delivery"),
        ('<Choice value="A" hint="The parcel came late"/>', "the parcel came late"),
        ('<Choice value="A" html="&lt;b&gt;Late&lt;/b&gt; parcel"/>', "late parcel"),
        ('<Choice value="A"/>', "a"),
        ('<Choice value="晚"/>', "晚"),
    ],
)
def test_a_choice_is_called_what_people_read(choice: str, name: str) -> None:
    space = parse_label_space(CONFIG.format(more="", choices=choice + '<Choice value="other"/>'))
    assert space.names == (name, "other")


def test_a_path_is_called_by_all_its_choices() -> None:
    choices = '<Choice value="Bank"><Choice value="Card"/><Choice value="Loan" alias="l"/></Choice>'
    space = parse_label_space(CONFIG.format(more='allowNested="true"', choices=choices))
    assert space.labels == ("Bank", "Card", "l")
    assert space.names == ("bank", "bank, card", "bank, loan")


def test_a_stored_space_without_names_is_called_by_its_labels() -> None:
    assert label_names(LabelSpace("c", "t", "$t", ("cardArrival", "B"))) == ("card arrival", "b")


@given(st.lists(st.text(max_size=10), max_size=4))
def test_joined_names_are_not_empty(parts: list[str]) -> None:
    assert bool(join_names(parts)) == any(parts)
