"""Controls that are no Choices: what annotations of them say, and what is suggested for them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_studio_sdk.label_interface import LabelInterface

from services.adapter.suggestions import build_suggestion
from services.core.domain import LabelSpace
from services.core.errors import NoLabelSpace
from services.core.labels import build_region, parse_answer, parse_label_space, parse_labels
from services.core.labels.annotations import exclusion_cause, resolve
from services.core.labels.name_check import names_problem
from services.core.labels.results import Answer
from services.core.labels.uncounted import Cause

_RATING = '<View><Text name="t" value="$text"/><Rating name="r" toName="t" maxRating="{}"/></View>'
STARS = parse_label_space(_RATING.format(5))


def rated(stars: Any, **more: Any) -> dict[str, Any]:
    region = {"from_name": "r", "to_name": "t", "type": "rating", "value": {"rating": stars}}
    stamp = "2026-01-01T00:00:00Z"
    return {"id": 1, "completed_by": 1, "result": [region], "updated_at": stamp, **more}


@pytest.mark.parametrize(("stars", "label"), [(3, "3"), (3.0, "3"), (5, "5"), ("3", "3"), ([4], "4")])
def test_a_rating_is_the_label_of_its_number(stars: Any, label: str) -> None:
    assert exclusion_cause(STARS, rated(stars)) is None
    assert resolve(STARS, [rated(stars)]).label == label


@pytest.mark.parametrize(
    ("stars", "reason"),
    [
        (0, "empty"),
        (None, "empty"),
        ([], "empty"),
        (6, "foreign_label"),
        (-1, "foreign_label"),
        (2.5, "foreign_label"),
        (True, "malformed"),
        (False, "malformed"),
        ({"a": 1}, "malformed"),
        ([1, 2], "several_labels"),
    ],
)
def test_which_ratings_do_not_count(stars: Any, reason: str) -> None:
    cause = exclusion_cause(STARS, rated(stars))
    assert cause is not None
    assert cause.reason == reason


def test_results_of_another_tag_of_the_name_are_no_answer() -> None:
    choices = [{"from_name": "r", "to_name": "t", "type": "choices", "value": {"choices": ["3"]}}]
    assert parse_answer(STARS, choices) == Answer(is_answered=True)


@given(most=st.integers(1, 100), data=st.data())
def test_a_rating_survives_the_way_back(most: int, data: st.DataObject) -> None:
    config = _RATING.format(most)
    space = parse_label_space(config)
    assert [int(label) for label in space.labels] == list(range(1, most + 1))
    stars = data.draw(st.integers(1, most))
    label = resolve(space, [rated(stars)]).label
    assert label is not None
    region = build_region(space, [label], 0.5)
    assert (region["type"], region["value"]) == ("rating", {"rating": stars})
    assert parse_labels(space, [region]) == (label,)
    assert LabelInterface(config).validate_region(region)
    suggestion = build_suggestion(space, [label], 0.5, 0.7, "v")
    assert suggestion is not None
    assert suggestion["result"] == [region]


_BIO = (
    '<Choice value="Archaea"/><Choice value="Bacteria"/><Choice value="Eukarya" alias="euk"><Choice value="Human"/>'
    '<Choice value="Plant"><Choice value="Tree" alias="t"/><Choice value="Herb"/></Choice></Choice>'
)


def taxonomy(attributes: str = 'maxUsages="1"', inside: str = _BIO) -> str:
    return f'<View><Text name="t" value="$text"/><Taxonomy name="r" toName="t" {attributes}>{inside}</Taxonomy></View>'


def placed(*paths: Any) -> dict[str, Any]:
    region = {"from_name": "r", "to_name": "t", "type": "taxonomy", "value": {"taxonomy": list(paths)}}
    return {"id": 1, "completed_by": 1, "result": [region], "updated_at": "2026-01-01T00:00:00Z"}


ONE, SEVERAL = parse_label_space(taxonomy()), parse_label_space(taxonomy(""))
LEAVES = parse_label_space(taxonomy('maxUsages="1" leafsOnly="true"'))


@pytest.mark.parametrize(
    ("space", "paths", "found"),
    [
        (ONE, [["Bacteria"]], "Bacteria"),
        (ONE, [["euk", "Plant", "t"]], "t"),
        (ONE, [["euk", "Plant"]], "Plant"),
        (LEAVES, [["euk", "Plant", "t"]], "t"),
        (ONE, [["euk"], ["euk", "Human"]], "Human"),
        (LEAVES, [["euk", "Plant"]], Cause("foreign_label", "euk > Plant")),
        (ONE, [["Bacteria"], ["euk", "Human"]], Cause("several_labels")),
        (ONE, [["Eukarya", "Human"]], Cause("value_for_alias", "Eukarya > Human")),
        (ONE, [["euk", "Virus"]], Cause("foreign_label", "euk > Virus")),
        (ONE, [["Human"]], "Human"),  # as written before it was moved below another one
        (ONE, ["Bacteria"], Cause("malformed")),
        (ONE, [[]], Cause("malformed")),
        (ONE, [], Cause("empty")),
    ],
)
def test_what_a_path_says(space: LabelSpace, paths: list[Any], found: str | Cause) -> None:
    label = resolve(space, [placed(*paths)]).label
    assert (label or exclusion_cause(space, placed(*paths))) == found


def test_several_paths_are_several_labels() -> None:
    assert (SEVERAL.multiple, SEVERAL.empty_counts) == (True, True)
    found = resolve(SEVERAL, [placed(["euk", "Human"], ["euk"], ["Bacteria"])]).labels
    assert found == ("Bacteria", "euk", "Human")
    assert resolve(SEVERAL, [placed()]).labels == ()
    assert 'maxUsages="1"' in SEVERAL.note
    assert names_problem(SEVERAL) == ""


@pytest.mark.parametrize(
    ("attributes", "multiple"),
    [
        ('maxUsages="1"', False),
        ('MAXUSAGES=" 1 "', False),
        ('maxUsages="2"', True),
        ('maxUsages="many"', True),
        ('maxUsages=""', True),
        ("", True),
    ],
)
def test_how_many_paths_an_answer_may_have(attributes: str, multiple: bool) -> None:
    assert parse_label_space(taxonomy(attributes)).multiple is multiple


def test_a_choice_with_the_separator_in_it_is_known_as_the_editor_splits_it() -> None:
    inside = '<Choice value="Food / Drink"><Choice value="Tea"/></Choice><Choice value="A / B"/>'
    space = parse_label_space(taxonomy(inside=inside))
    assert resolve(space, [placed(["Food", "Drink", "Tea"])]).label == "Tea"
    assert resolve(space, [placed(["A", "B"])]).label == "A / B"
    assert build_region(space, ["Tea"], 0.5)["value"] == {"taxonomy": [["Food / Drink", "Tea"]]}


_WORDS = st.text("ab /", min_size=1, max_size=4)
_CHILDREN = st.recursive(
    st.just(""),
    lambda inside: st.lists(st.tuples(_WORDS, inside), max_size=3).map(
        lambda found: "".join(f'<Choice value="{word}">{below}</Choice>' for word, below in found)
    ),
    max_leaves=8,
)


@given(
    inside=_CHILDREN, attributes=st.sampled_from(["", 'maxUsages="1"', 'leafsOnly="true"']), data=st.data()
)
def test_a_path_survives_the_way_back(inside: str, attributes: str, data: st.DataObject) -> None:
    config = taxonomy(attributes, inside)
    try:
        space = parse_label_space(config)
    except NoLabelSpace:
        return
    chosen = data.draw(st.lists(st.sampled_from(space.labels), min_size=1, max_size=3, unique=True))
    labels = chosen if space.multiple else chosen[:1]
    region = build_region(space, labels, 0.5)
    assert parse_labels(space, [region]) == tuple(labels)
    assert LabelInterface(config).validate_region(region)
    separator = space.path_separator
    split = [separator.join(path).split(separator) for path in region["value"]["taxonomy"]]
    assert parse_labels(space, placed(*split)["result"]) == tuple(labels)
