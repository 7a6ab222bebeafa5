"""core.labels.text: what the editor shows for a task is what is read."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.core.domain import LabelSpace
from services.core.labels import parse_label_space, task_text
from tests.core.labels.texts import ROWS, UNSHOWN, Row

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text("<>/pbrscipt &;!-\0"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["t", "author", "text", "b"]) | st.text(), inner, max_size=4)
    ),
)


@pytest.mark.parametrize("row", ROWS + UNSHOWN, ids=lambda row: f"{row.tag} {row.data}"[:90])
def test_the_text_is_what_the_tag_shows(row: Row) -> None:
    assert task_text(parse_label_space(row.config), row.data) == row.text


def test_a_tag_without_a_variable_shows_no_text_of_a_task() -> None:
    assert task_text(LabelSpace("c", "t", "no variable", ("A",)), {"text": "x"}) is None


@pytest.mark.parametrize("data", [None, 7, "text", ["text"]])
def test_data_of_another_shape_has_no_text(data: object) -> None:
    assert task_text(LabelSpace("c", "t", "$text", ("A",)), data) is None


@given(
    JUNK | st.dictionaries(st.just("t"), JUNK),
    st.sampled_from(["Text", "HyperText", "Paragraphs"]),
    st.sampled_from(["$t", "$t.b", "$t[0].text", "$.[", "$t: $t.length", "$t]"]),
    st.sampled_from(["", "base64", "base64unicode"]),
)
def test_no_shape_of_data_raises(data: object, tag: str, value: str, encoding: str) -> None:
    space = LabelSpace("c", "t", value, ("A",), text_tag=tag, text_attributes={"encoding": encoding})
    text = task_text(space, data)
    assert text is None or text.strip()


def test_tags_nested_more_deeply_than_calls_are_read() -> None:
    space = replace(LabelSpace("c", "t", "$t", ("A",)), text_tag="HyperText")
    assert task_text(space, {"t": "<b>" * 1500 + "deep" + "</b>" * 1500}) == "deep"
