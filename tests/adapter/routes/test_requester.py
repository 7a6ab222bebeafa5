"""Who asked, as it is stored, logged and shown."""

from __future__ import annotations

import base64

import pytest
from starlette.requests import Request

from services.adapter.routes.auth import LOGGED_IN
from services.adapter.routes.requester import MAX_REQUESTER, label_studio_requester, requester_of
from services.core import redaction


def request(
    authorization: bytes = b"",
    client: tuple[str, int] | None = ("10.0.0.7", 4711),
    *,
    logged_in: bool = True,
) -> Request:
    headers = [(b"authorization", authorization)] if authorization else []
    return Request({"type": "http", "headers": headers, "client": client, LOGGED_IN: logged_in})


def basic(pair: str, encoding: str = "utf-8") -> bytes:
    return b"Basic " + base64.b64encode(pair.encode(encoding))


@pytest.mark.parametrize(
    ("authorization", "said"),
    [
        (basic("anna:pass"), "anna from 10.0.0.7"),
        (basic("Zoë:p:q"), "Zoë from 10.0.0.7"),
        (basic("Zoë:p", "latin-1"), "Zoë from 10.0.0.7"),
        (basic("李雷:p"), "李雷 from 10.0.0.7"),
        (b"", "anonymous from 10.0.0.7"),
        (basic(":p"), "anonymous from 10.0.0.7"),
        (basic(" \n :p"), "anonymous from 10.0.0.7"),
        (basic("no colon"), "anonymous from 10.0.0.7"),
        (b"Basic ???", "anonymous from 10.0.0.7"),
        ("Basic ü".encode("latin-1"), "anonymous from 10.0.0.7"),
        (b"Bearer abc", "anonymous from 10.0.0.7"),
        (basic("an\u202ena\r\n\x1b[31m:p"), "anna [31m from 10.0.0.7"),
    ],
)
def test_name_and_address(authorization: bytes, said: str) -> None:
    assert requester_of(request(authorization)) == said


def test_a_name_that_nothing_was_compared_with_is_not_repeated() -> None:
    assert requester_of(request(basic("root:x"), logged_in=False)) == "anonymous from 10.0.0.7"


@pytest.mark.parametrize(
    ("client", "said"),
    [
        (("2001:db8::1", 1), "anna from 2001:db8::1"),
        (("fe80::1%eth0", 1), "anna from fe80::1"),
        (("unix:", 0), "anna"),
        (("root from 10.0.0.1", 0), "anna"),
        (None, "anna"),
    ],
)
def test_only_an_address_is_taken_for_one(client: tuple[str, int] | None, said: str) -> None:
    assert requester_of(request(basic("anna:p"), client)) == said


def test_it_is_bounded_whatever_is_sent() -> None:
    longest = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1)
    said = requester_of(request(basic("é" * 5000 + ":p"), longest))
    assert len(said) <= MAX_REQUESTER
    assert said.endswith("é from ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


def test_a_password_written_in_place_of_the_name_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_secrets", ["correct-horse"])
    assert requester_of(request(basic("correct-horse:x"))) == "[hidden] from 10.0.0.7"


def test_label_studio_is_named_by_its_door() -> None:
    assert label_studio_requester(request(basic("anna:p"))) == "Label Studio from 10.0.0.7"
