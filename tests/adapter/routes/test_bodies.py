"""Bodies in and out."""

from __future__ import annotations

import threading

import pytest

from services.adapter.routes import bodies
from services.adapter.routes.bodies import LARGE, compute, parse_object
from services.core.errors import BadRequest
from tests.fakes import World


def test_what_python_writes_is_read_though_it_is_no_strict_json() -> None:
    found = parse_object(b'{"a": NaN, "b": "\\ud800", "c": "\xff"}')
    assert found["a"] != found["a"]
    assert (found["b"], found["c"]) == ("\ud800", "\N{REPLACEMENT CHARACTER}")


@pytest.mark.parametrize("body", [b"", b"{", b'{"a": ' + b"[" * 200_000, b'{"a": ' + b"9" * 5000 + b"x"])
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
    assert await compute(LARGE, threading.get_ident) == here
    assert await compute(LARGE + 1, threading.get_ident) != here


async def test_a_body_without_end_is_refused(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "MOST", 1 << 20)
    answer = await world.client.post("/predict", content=b" " * ((1 << 20) + 1))
    assert answer.status_code == 413
    assert answer.json()["detail"] == "The body has more than 1 MB: send fewer tasks at once."
