"""core.labels: the question that a config asks, the text that a task holds, the labels that a result gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace
from services.core.labels import (
    build_region,
    is_usable,
    label_config_hash,
    parse_label_space,
    parse_labels,
    signature,
)

PLAIN = '<View><Text name="t" value="$body"/><Choices name="c" toName="t"><Choice value="A"/><Choice value="B"/></Choices></View>'
NESTED = (
    '<View><Text name="t" value="$body"/><Choices name="c" toName="t" {more}><Choice value="A" alias="a1"/>'
    '<Choice value="B"><Choice value="B1"/><Choice value="B2" alias="bb"/></Choice></Choices></View>'
)
SPACE = LabelSpace("c", "t", "$body", ("A", "B"))


def test_a_plain_config_gives_its_names_and_labels() -> None:
    space = parse_label_space(PLAIN)
    assert (space.from_name, space.to_name, space.text_value) == ("c", "t", "$body")
    assert space.labels == ("A", "B")
    assert space.paths is None


def test_an_alias_is_the_label() -> None:
    assert parse_label_space(NESTED.format(more="")).labels == ("a1", "B", "B1", "bb")


def test_nested_choices_are_flat_without_paths() -> None:
    space = parse_label_space(NESTED.format(more='allowNested="true"'))
    assert space.paths == (("a1",), ("B",), ("B", "B1"), ("B", "bb"))
    assert build_region(space, ["bb"], 0.5)["value"] == {"choices": [["B", "bb"]]}
    assert parse_labels(space, [build_region(space, ["bb"], 0.5)]) == ("bb",)


TWICE = (
    '<View><Text name="t" value="$t"/><Choices name="c" toName="t" allowNested="true"><Choice value="Billing">'
    '<Choice value="Other"/><Choice value="Late"/></Choice><Choice value="Shipping"><Choice value="Other"/></Choice>'
    '</Choices><Choices name="more" toName="t"><Choice value="Late"/><Choice value="Q"/></Choices></View>'
)


def test_equal_choices_below_two_parents_differ() -> None:
    space = parse_label_space(TWICE)
    assert space.labels == ("Billing", "Billing > Other", "Late", "Shipping", "Shipping > Other")
    for path, label in zip(space.paths or (), space.labels, strict=True):
        annotation = [{"from_name": "c", "value": {"choices": [list(path)]}}]
        assert parse_labels(space, annotation) == (label,)
        assert build_region(space, [label], 0.5)["value"] == {"choices": [list(path)]}


def test_a_parent_choice_is_not_a_second_label() -> None:
    space = parse_label_space(TWICE)

    def labels_of(*paths: list[str]) -> tuple[str, ...]:
        return parse_labels(space, [{"from_name": "c", "value": {"choices": list(paths)}}])

    assert labels_of(["Shipping"], ["Shipping", "Other"]) == ("Shipping > Other",)
    assert labels_of(["Shipping", "Other"], ["Shipping"]) == ("Shipping > Other",)
    assert labels_of(["Shipping"], ["Billing", "Other"]) == ("Shipping", "Billing > Other")
    assert labels_of(["Billing"], ["Billing", "Other"], ["Billing", "Late"]) == ("Billing > Other", "Late")


def test_other_questions_choices_are_no_parents() -> None:
    space = parse_label_space(TWICE)
    assert dict(zip(space.labels, space.paths or (), strict=True))["Late"] == ("Billing", "Late")


def test_a_path_missing_in_the_config_is_unknown() -> None:
    moved = [{"from_name": "c", "value": {"choices": [["Shipping", "Late"]]}}]
    assert parse_labels(parse_label_space(TWICE), moved) == ("Shipping > Late",)


@pytest.mark.parametrize(
    ("result", "labels"),
    [
        ([{"from_name": "c", "value": {"choices": ["A", "B"]}}], ("A", "B")),
        (
            [
                {"from_name": "c", "value": {"choices": ["A"]}},
                {"from_name": "c", "value": {"choices": ["B", "A"]}},
            ],
            ("A", "B"),
        ),
        ([{"from_name": "other", "value": {"choices": ["A"]}}], ()),
        ([{"from_name": "c"}, None, 3, {"from_name": "c", "value": {"choices": 4}}], ("4",)),
        (None, ()),
        ("text", ()),
    ],
)
def test_labels_are_read_from_one_region_or_several(result: object, labels: tuple[str, ...]) -> None:
    assert parse_labels(SPACE, result) == labels


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_no_shape_of_result_raises(junk: object) -> None:
    parse_labels(SPACE, junk)  # must not raise


def test_a_signature_changes_with_every_edit_and_ignores_order() -> None:
    one = {"id": 1, "updated_at": "t1", "result": [1]}
    two = {"id": 2, "updated_at": "t1", "result": [1]}
    assert signature([one, two]) == signature([two, one])
    assert signature([one, two]) != signature([one])
    assert signature([{**one, "updated_at": "t2"}]) != signature([one])


def test_skipped_and_empty_annotations_are_no_label() -> None:
    assert signature([{"id": 1, "updated_at": "t", "result": []}]) is None
    assert signature([{"id": 1, "updated_at": "t", "result": [1], "was_cancelled": True}]) is None
    assert not is_usable({"result": None})


def test_a_config_hash_is_short_and_stable() -> None:
    assert label_config_hash(PLAIN) == label_config_hash(PLAIN)
    assert label_config_hash(PLAIN) != label_config_hash(PLAIN + " ")
