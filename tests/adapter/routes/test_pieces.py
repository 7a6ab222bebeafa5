"""An object that is cut while it comes is what it would have been if it had been parsed whole."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapter.routes import pieces
from services.adapter.routes.bodies import MOST
from services.adapter.routes.pieces import LONGEST, Cutter, elements
from services.core.errors import BadRequest
from services.core.http.limits import BodyTooLarge

TEXTS = st.text(max_size=8) | st.sampled_from(['"]}', '\\"', "[{", "tasks", '"tasks": ['])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def cut(body: bytes, step: int, name: str = "tasks") -> tuple[dict[str, Any], list[Any]]:
    cutter, found = Cutter(name), []
    for start in range(0, len(body), step):
        found += cutter.feed(body[start : start + step])
    envelope = cutter.envelope()
    return envelope, [one for place, piece in enumerate(found) for one in elements(piece, first=place == 0)]


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(TEXTS.filter(lambda name: name != "tasks"), VALUES, max_size=4),
    st.lists(VALUES, max_size=6),
    st.integers(1, 40),
    st.integers(1, 30),
    st.sampled_from([None, 2]),
    st.booleans(),
)
def test_envelope_and_elements_are_those_of_the_whole(
    beside: dict[str, Any], tasks: list[Any], step: int, piece: int, indent: int | None, last: bool
) -> None:
    whole = {**beside, "tasks": tasks} if last else {"tasks": tasks, **beside}
    body = json.dumps(whole, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", piece)
        assert cut(body, step) == ({**beside, "tasks": []}, tasks)


@pytest.mark.parametrize(
    "body",
    [
        b'{"tasks": [{"a": 1}',
        b'{"tasks": [{"a": 1} {"b": 2}]}',
        b'{"tasks": [{"a": 1},]}',
        b'{"tasks": [,{"a": 1}]}',
        b'{"tasks": [{"a": 1}}',
        b'{"tasks": [{"a": 1]]}',
        b'{"tasks": [1], "tasks": [2]}',
        b'{"tasks": []]}',
        b"}}}",
        b'{"a',
    ],
)
def test_what_is_no_json_is_found_wherever_it_is_cut(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "PIECE", 1)
    with pytest.raises(BadRequest, match=r"^The body is not JSON"):
        cut(body, 3)


def test_what_python_writes_is_read() -> None:
    (found,) = cut(b'{"tasks": [{"a": NaN, "b": "\\ud800"}]}', 5)[1]
    assert found["a"] != found["a"]
    assert found["b"] == "\ud800"


def test_a_name_that_only_ends_like_the_lists_is_another() -> None:
    assert cut(b'{"my\\"tasks": [1], "tasks": [2]}', 4) == ({'my"tasks': [1], "tasks": []}, [2])


def test_every_list_of_the_object_is_cut_where_none_is_named() -> None:
    body = b'{"action": "TASKS_CREATED", "tasks": [{"id": [1]}], "project": {"id": 5, "a": [1]}, "ids": [2]}'
    cutter = Cutter()
    cutter.feed(body)
    assert cutter.envelope() == {
        "action": "TASKS_CREATED",
        "tasks": [],
        "project": {"id": 5, "a": [1]},
        "ids": [],
    }


def test_an_element_is_refused_beyond_a_size() -> None:
    with pytest.raises(
        BodyTooLarge, match=r"^One task of the body has more than 4 MB: send the others without it\.$"
    ):
        cut(b'{"tasks": ["' + b"x" * (2 * LONGEST), 1 << 20)


def test_an_envelope_is_refused_beyond_a_size() -> None:
    with pytest.raises(BodyTooLarge, match=r"^What stands beside the tasks in the body has more than 8 MB"):
        cut(b'{"a": "' + b"x" * (2 * MOST), 1 << 20)
