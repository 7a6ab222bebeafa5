"""Bodies in and out."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapter.routes import bodies, predictions, webhook
from services.adapter.routes.bodies import (
    LARGE_BODY,
    MAX_ELEMENT_BYTES,
    MAX_OBJECT_BYTES,
    MAX_OBJECT_VALUES,
    ListSplitter,
    parse_elements,
    parse_object,
    parse_project_id,
    run_by_size,
)
from services.core.errors import BadRequest
from services.core.http.limits import BodyTooLarge
from tests.support.app import AppWorld


def test_what_python_writes_is_read_though_it_is_no_strict_json() -> None:
    found = parse_object(b'{"a": NaN, "b": "\\ud800", "c": "\xff"}')
    assert found["a"] != found["a"]
    assert (found["b"], found["c"]) == ("\ud800", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": ' + b"[" * 90_000, b'{"a": ' + b"9" * 5000 + b"x"])
def test_what_is_no_json_is_a_bad_request_that_repeats_nothing(body: bytes) -> None:
    with pytest.raises(BadRequest, match=r"^The body is not JSON: send a JSON object\.$"):
        parse_object(body)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"[]", "a list"),
        (b'"x"', "a text"),
        (b"1", "a number"),
        (b"null", "null"),
        (b"true", "true or false"),
    ],
)
def test_what_is_no_object_is_named(body: bytes, kind: str) -> None:
    with pytest.raises(BadRequest, match=f"must be a JSON object, and is {kind}"):
        parse_object(body)


async def test_large_work_leaves_the_event_loop() -> None:
    here = threading.get_ident()
    assert await run_by_size(LARGE_BODY, threading.get_ident) == here
    assert await run_by_size(LARGE_BODY + 1, threading.get_ident) != here


def test_an_object_of_too_many_values_is_not_parsed() -> None:
    with pytest.raises(BodyTooLarge, match=r"^The body has more than 100,000 values beside its tasks"):
        parse_object(b'{"a": [' + b"1," * MAX_OBJECT_VALUES + b"1]}")


@pytest.mark.parametrize("route", ["/predict", "/setup", "/webhook"])
async def test_a_body_without_end_is_refused(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    for module in (bodies, predictions, webhook):
        for name in {"MAX_OBJECT_BYTES", "MAX_REQUEST_BYTES", "MAX_EVENT_BYTES"} & set(vars(module)):
            monkeypatch.setattr(module, name, 1 << 20)

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 100_000

    answer = await world.client.post(route, content=parts())
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith(("The body is larger than 1 MB", "The body without its tasks"))


async def test_a_declared_length_over_the_limit_is_refused_unread(world: AppWorld) -> None:
    async def unread() -> AsyncIterator[bytes]:
        yield b"x"

    size = {"Content-Length": str(300 << 20)}
    answer = await world.client.post("/predict", content=unread(), headers=size)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "The body is larger than 256 MB: send fewer tasks at once.",
    )


async def test_a_compressed_body_is_refused(world: AppWorld) -> None:
    answer = await world.client.post("/predict", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["detail"]) == (
        415,
        "The body is compressed ('gzip'): send it as it is.",
    )


TEXTS = st.text(max_size=8) | st.sampled_from(['"]}', '\\"', "[{", "tasks", '"tasks": ['])

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


def cut(body: bytes, step: int, name: str = "tasks") -> tuple[dict[str, Any], list[Any]]:
    cutter, found = ListSplitter(name), []
    for start in range(0, len(body), step):
        found += cutter.feed(body[start : start + step])
    envelope = cutter.envelope()
    return envelope, [
        one for place, piece in enumerate(found) for one in parse_elements(piece, first=place == 0)
    ]


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
        patch.setattr(bodies, "PIECE_BYTES", piece)
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
    monkeypatch.setattr(bodies, "PIECE_BYTES", 1)
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
    cutter = ListSplitter()
    cutter.feed(body)
    assert cutter.envelope() == {
        "action": "TASKS_CREATED",
        "tasks": [],
        "project": {"id": 5, "a": [1]},
        "ids": [],
    }


def test_an_element_is_refused_beyond_a_size() -> None:
    with pytest.raises(
        BodyTooLarge, match=r"^One task of the body is larger than 4 MB: send the others without it\.$"
    ):
        cut(b'{"tasks": ["' + b"x" * (2 * MAX_ELEMENT_BYTES), 1 << 20)


def test_an_envelope_is_refused_beyond_a_size() -> None:
    with pytest.raises(BodyTooLarge, match=r"^The body without its tasks is larger than 8 MB"):
        cut(b'{"a": "' + b"x" * (2 * MAX_OBJECT_BYTES), 1 << 20)


@pytest.mark.parametrize("value", [5, "5", "5.1795473352", 5.0, {"id": 5}, {"id": "5.17"}, " 5 "])
def test_the_id_is_what_stands_before_the_dot(value: object) -> None:
    assert parse_project_id(value) == 5


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "",
        "five",
        "-5",
        "٣",
        "9" * 5000,
        float("nan"),
        float("inf"),
        1e30,
        [],
        {},
        {"id": {"id": 5}},
    ],
)
def test_anything_else_is_no_id(value: object) -> None:
    assert parse_project_id(value) is None
