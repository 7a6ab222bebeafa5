"""core.labels.results: what an annotation's result says, as editors and imports write it."""

from __future__ import annotations

from typing import Any

import pytest

from services.core.domain import LabelSpace
from services.core.labels import build_region, parse_answer, parse_label_space, parse_labels
from services.core.labels.results import Answer

STARS = LabelSpace("stars", "t", "$text", ("1", "2", "1.5", "-3"))


def choices(given: Any, control: str = "stars") -> list[dict[str, Any]]:
    return [{"from_name": control, "to_name": "t", "type": "choices", "value": {"choices": given}}]


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        (["1"], ("1",)),
        ([1], ("1",)),
        ([1.0], ("1",)),
        ([-3], ("-3",)),
        ([-0.0], ("0",)),
        ([1.5], ("1.5",)),
        ([2.5], ("2.5",)),
        ([1, "1"], ("1",)),
        (1, ("1",)),
        ("2", ("2",)),
        (["1.0"], ("1.0",)),
        ([True], ()),
        ([float("nan")], ()),
        ([float("inf")], ()),
        ([10**400], ()),
        ([None], ()),
        (None, ()),
        ([], ()),
        ({"a": 1}, ()),
    ],
)
def test_a_whole_number_is_the_choice_that_it_is_written_as(given: Any, labels: tuple[str, ...]) -> None:
    assert parse_labels(STARS, choices(given)) == labels


def test_fractions_and_whole_numbers_differ() -> None:
    space = LabelSpace("stars", "t", "$text", ("1", "1.0"))
    assert parse_labels(space, choices([1])) == ("1",)
    assert parse_labels(space, choices([1.0])) == ("1.0",)


def test_numbers_are_read_in_paths_as_well() -> None:
    space = LabelSpace("stars", "t", "$text", ("1", "2"), (("7", "1"), ("7", "2")))
    assert parse_labels(space, choices([[7, 1]])) == ("1",)
    assert parse_labels(space, choices([[7, 9]])) == ("7 > 9",)
    assert parse_answer(space, choices([[7, None]])) == Answer(has_unreadable=True, is_answered=True)
    assert build_region(space, ["1"], 0.5)["value"] == {"choices": [["7", "1"]]}


def test_a_path_that_ends_above_a_choice_of_its_name_is_no_label() -> None:
    space = LabelSpace("stars", "t", "$text", ("Books", "E"), (("Books", "Books"), ("Books", "E")))
    (found,) = parse_labels(space, choices([["Books"]]))
    assert found not in space.labels
    assert parse_labels(space, choices([["Books", "Books"]])) == ("Books",)


def test_other_controls_are_known_by_their_names() -> None:
    found = parse_answer(STARS, [*choices(["x"], "topic"), *choices(["1"]), *choices(["y"], "topic")])
    assert found == Answer(("1",), is_answered=True, other_controls=("topic",))


ALIASES = """<View><Text name="t" value="$text"/><Choices name="stars" toName="t"%s>
<Choice value="One" alias="1"/><Choice value="Two" alias="2"><Choice value="Half" alias="h"/></Choice><Choice value="three"/>
</Choices></View>"""


def test_what_the_editor_shows_of_an_alias_is_known() -> None:
    assert parse_label_space(ALIASES % "").shown == {"One": "1", "Two": "2", "Half": "h"}


def test_with_nested_choices_it_is_known_by_its_path() -> None:
    space = parse_label_space(ALIASES % ' allowNested="true"')
    assert space.shown == {"One": "1", "Two": "2", "Two > Half": "h"}
    assert parse_labels(space, choices([["Two", "Half"]])) == ("Two > Half",)


def test_ambiguous_display_names_map_to_no_label() -> None:
    config = """<View><Text name="t" value="$text"/><Choices name="stars" toName="t"><Choice value="One" alias="1"/>
    <Choice value="One" alias="2"/><Choice value="1" alias="3"/></Choices></View>"""
    assert parse_label_space(config).shown == {}
