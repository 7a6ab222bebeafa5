"""core.labels.config: the question that a label config asks, and why others are not learnt."""

from __future__ import annotations

import pytest

from services.core.errors import NoLabelSpace
from services.core.labels import Control, UnusableControl, label_config_hash, list_controls, parse_label_space
from tests.core.labels.configs import LEARNT, REFUSED, TEXT, Row, choices, over, view


@pytest.mark.parametrize("row", LEARNT, ids=[row.name for row in LEARNT])
def test_what_is_learnt(row: Row) -> None:
    space = parse_label_space(row.config)
    assert (space.from_name, space.labels) == (row.control, row.labels)
    assert [words for words in row.says if words not in space.note] == []


@pytest.mark.parametrize("row", REFUSED, ids=[row.name for row in REFUSED])
def test_what_is_refused(row: Row) -> None:
    with pytest.raises(NoLabelSpace) as raised:
        parse_label_space(row.config)
    assert [words for words in row.says if words not in str(raised.value)] == []


def test_half_of_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(NoLabelSpace, match="cannot be read as XML"):
        parse_label_space(over(TEXT, inside='<Choice value="\ud83d"/>'))


def test_a_refusal_names_tag_control_attribute_and_reason() -> None:
    (found,) = list_controls(over(TEXT, 'toName="t" PerRegion="true"'))
    assert isinstance(found, UnusableControl)
    assert (found.tag, found.name, found.attribute) == ("Choices", "c", 'PerRegion="true"')
    assert str(found).startswith('<Choices name="c"> has PerRegion="true", so it is answered for a region')


def test_the_text_is_described_for_who_reads_it() -> None:
    space = parse_label_space(over('<paragraphs NAME="t" Value="$talk" nameKey="who" TEXTKEY="said"/>'))
    assert (space.text_tag, space.to_name, space.text_value) == ("Paragraphs", "t", "$talk")
    assert space.text_attributes == {"namekey": "who", "textkey": "said"}


def test_the_text_in_a_tag_is_its_value() -> None:
    space = parse_label_space(over('<HyperText name="t" value="$x"><p>$body</p></HyperText>'))
    assert (space.text_tag, space.text_value) == ("HyperText", "<p>$body</p>")


def test_nested_choices_have_paths() -> None:
    nested = '<Choice value="A"/><Choice value="B" alias="b"><Choice value="C" alias="c"/></Choice>'
    space = parse_label_space(over(TEXT, 'toName="t" allownested="true"', nested))
    assert space.paths == (("A",), ("b",), ("b", "c"))
    assert parse_label_space(over(TEXT, inside=nested)).paths is None


@pytest.mark.parametrize(
    ("attributes", "multiple", "empty_counts"),
    [
        ('choice="single"', False, False),
        ('choice=" Multiple "', True, True),
        ('choice="multiple" required="true"', True, False),
        ('choice="multiple" visibleWhen="choice-selected" whenTagName="x"', True, False),
    ],
)
def test_whether_no_choice_is_an_answer(attributes: str, multiple: bool, empty_counts: bool) -> None:
    space = parse_label_space(over(TEXT, f'toName="t" {attributes}'), "c")
    assert (space.multiple, space.empty_counts) == (multiple, empty_counts)


def test_other_controls_choices_are_no_parents() -> None:
    nested = '<Choice value="A"><Choice value="X"/></Choice><Choice value="B"/>'
    config = view(TEXT, choices("c", 'toName="t" allowNested="true"', nested), choices("d"))
    space = parse_label_space(config)
    assert dict(zip(space.labels, space.paths or (), strict=True))["X"] == ("A", "X")


TWO = view(
    TEXT,
    choices("first"),
    choices("second", inside='<Choice value="Y"/><Choice value="N"/>'),
    choices("spans", 'toName="t" perRegion="true"'),
    choices("why", 'toName="t" visibleWhen="choice-selected" whenTagName="first"'),
)


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        (None, "first"),
        ("second", "second"),
        ("why", "why"),
        ("absent, second", "second"),
        ("spans,second,first", "second"),
    ],
)
def test_a_setting_names_the_control(wanted: str | None, taken: str) -> None:
    space = parse_label_space(TWO, wanted)
    assert space.from_name == taken
    assert space.note.startswith(f"Choices {taken!r} over Text 't' (skipped: ")


def test_a_name_with_a_comma_is_a_name() -> None:
    assert parse_label_space(view(TEXT, choices("a"), choices("b,c")), "b,c").from_name == "b,c"


@pytest.mark.parametrize(
    ("config", "wanted", "words"),
    [
        (TWO, "absent", "The settings choose control 'absent', but the label config has no such control. Name one of 'first', 'second', 'why' in FITLOOP_CONTROLS, or as"),
        (TWO, "spans", 'but it cannot be used: <Choices name="spans"> has perRegion="true"'),
        (TWO, "First", "no such control"),
        (view(TEXT), "c", "None of its other controls can be used either"),
    ],
)  # fmt: skip
def test_an_unusable_named_control_is_not_replaced(config: str, wanted: str, words: str) -> None:
    with pytest.raises(NoLabelSpace) as raised:
        parse_label_space(config, wanted)
    assert words in str(raised.value)


def test_a_refusal_lists_a_few_of_many_controls() -> None:
    many = view(TEXT, *(choices(f"c{place}", 'toName="t" perRegion="true"') for place in range(2000)))
    with pytest.raises(NoLabelSpace, match="and 1988 more") as raised:
        parse_label_space(many)
    assert len(str(raised.value)) < 2000
    page = over('<HyperText name="t">' + "<p>all the same</p>" * 1000 + "</HyperText>")
    with pytest.raises(NoLabelSpace) as raised:
        parse_label_space(page)
    assert len(str(raised.value)) < 600


def test_controls_are_listed_in_order() -> None:
    found = list_controls(TWO)
    assert [one.name for one in found] == ["first", "second", "spans", "why"]
    assert [one.name for one in found if isinstance(one, Control) and one.condition] == ["why"]


def test_a_configs_hash_changes_with_it() -> None:
    assert label_config_hash(TWO) != label_config_hash(TWO + " ")
    assert len(label_config_hash("\ud83d")) == 12
