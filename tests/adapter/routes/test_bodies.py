"""Bodies in and out."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator

import pytest

from services.adapter.routes import bodies, events, pieces, predictions
from services.adapter.routes.bodies import LARGE, VALUES, compute, parse_object
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
    assert await compute(LARGE, threading.get_ident) == here
    assert await compute(LARGE + 1, threading.get_ident) != here


def test_an_object_of_too_many_values_is_not_parsed_because_all_else_would_wait() -> None:
    with pytest.raises(BodyTooLarge, match=r"^The body has more than 100,000 values beside its tasks"):
        parse_object(b'{"a": [' + b"1," * VALUES + b"1]}")


@pytest.mark.parametrize("route", ["/predict", "/setup", "/webhook"])
async def test_a_body_without_end_is_refused(
    world: AppWorld, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    for module in (bodies, pieces, predictions, events):
        for name in {"MOST", "LARGEST"} & set(vars(module)):
            monkeypatch.setattr(module, name, 1 << 20)

    async def parts() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 100_000

    answer = await world.client.post(route, content=parts())
    assert answer.status_code == 413
    assert answer.json()["detail"].startswith(("The body has more than 1 MB", "What stands beside"))


async def test_a_length_beyond_the_limit_is_refused_before_the_body_is_read(world: AppWorld) -> None:
    async def unread() -> AsyncIterator[bytes]:
        yield b"x"

    size = {"Content-Length": str(300 << 20)}
    answer = await world.client.post("/predict", content=unread(), headers=size)
    assert (answer.status_code, answer.json()["detail"]) == (
        413,
        "The body has more than 256 MB: send fewer tasks at once.",
    )


async def test_a_compressed_body_is_refused(world: AppWorld) -> None:
    answer = await world.client.post("/predict", content=b"x", headers={"Content-Encoding": "gzip"})
    assert (answer.status_code, answer.json()["detail"]) == (
        415,
        "The body is compressed ('gzip'): send it as it is.",
    )
