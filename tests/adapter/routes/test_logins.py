"""Failed logins of an address: how long answers are held back, what is remembered, and what the log says."""

from __future__ import annotations

import base64

import pytest
from starlette.requests import Request
from structlog.testing import capture_logs

from services.adapter.routes import logins
from services.adapter.routes.logins import (
    FREE_FAILURES,
    LOGGED_IN,
    MAX_DELAYED_PER_PEER,
    MAX_REQUESTER,
    RESET_SECONDS,
    LoginAttempts,
    label_studio_requester,
    requester_of,
)
from services.core import redaction


def failed(found: LoginAttempts, address: str, times: int, now: float = 0.0) -> list[float]:
    return [found.record_failure(address, now) for _ in range(times)]


def test_delays_double_after_the_free_failures() -> None:
    assert failed(LoginAttempts(), "10.0.0.7", FREE_FAILURES + 7) == [0.0] * FREE_FAILURES + [
        0.25,
        0.5,
        1.0,
        2.0,
        4.0,
        4.0,
        4.0,
    ]


def test_ten_quiet_minutes_are_forgiven() -> None:
    found = LoginAttempts()
    failed(found, "10.0.0.7", 20)
    assert found.record_failure("10.0.0.7", RESET_SECONDS + 1) == 0.0


def test_other_addresses_pay_nothing() -> None:
    found = LoginAttempts()
    failed(found, "10.0.0.7", 20)
    assert found.record_failure("10.0.0.8", 0.0) == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [("2001:db8::1", "2001:db8::ffff:2"), ("::ffff:10.0.0.7", "10.0.0.7"), ("testclient", "testclient")],
)
def test_addresses_of_one_caller_count_together(one: str, other: str) -> None:
    found = LoginAttempts()
    failed(found, one, 20)
    assert found.record_failure(other, 0.0) == 4.0


def test_many_delayed_answers_block_a_peer_without_a_login() -> None:
    found = LoginAttempts()
    failed(found, "10.0.0.7", 20)
    for _ in range(MAX_DELAYED_PER_PEER):
        found.count_delayed("10.0.0.7", 1)
    assert found.is_blocked("10.0.0.7", 1.0)
    assert found.record_failure("10.0.0.7", 1.0) == -1.0
    found.record_success("10.0.0.7", 2.0)  # by a request that began before
    assert not found.is_blocked("10.0.0.7", 3.0)
    assert found.is_blocked("10.0.0.7", 3.0 + RESET_SECONDS)
    for _ in range(MAX_DELAYED_PER_PEER):
        found.count_delayed("10.0.0.7", -1)
    assert not found.is_blocked("10.0.0.7", 3.0 + RESET_SECONDS)


def test_the_log_says_once_a_minute_how_many() -> None:
    found = LoginAttempts()
    with capture_logs() as lines:
        failed(found, "10.0.0.7", 50)
        failed(found, "10.0.0.7", 1, now=61.0)
    actual = [(line["event"], line["peer"], line["failures"]) for line in lines]
    assert actual == [("login_failed", "10.0.0.7", 1), ("login_failed", "10.0.0.7", 50)]


def test_addresses_without_end_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "_MAX_PEERS", 10)
    found = LoginAttempts()
    found.count_delayed("10.1.0.1", 1)
    for number in range(100):
        found.record_failure(f"10.0.0.{number}", 0.0)
    assert len(found.peers) == 10
    assert "10.1.0.1" in found.peers


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
    ("authorization", "actual"),
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
def test_name_and_address(authorization: bytes, actual: str) -> None:
    assert requester_of(request(authorization)) == actual


def test_a_name_that_nothing_was_compared_with_is_not_repeated() -> None:
    assert requester_of(request(basic("root:x"), logged_in=False)) == "anonymous from 10.0.0.7"


@pytest.mark.parametrize(
    ("client", "actual"),
    [
        (("2001:db8::1", 1), "anna from 2001:db8::1"),
        (("fe80::1%eth0", 1), "anna from fe80::1"),
        (("unix:", 0), "anna"),
        (("root from 10.0.0.1", 0), "anna"),
        (None, "anna"),
    ],
)
def test_only_an_address_is_taken_for_one(client: tuple[str, int] | None, actual: str) -> None:
    assert requester_of(request(basic("anna:p"), client)) == actual


def test_it_is_bounded_whatever_is_sent() -> None:
    longest = ("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 1)
    actual = requester_of(request(basic("é" * 5000 + ":p"), longest))
    assert len(actual) <= MAX_REQUESTER
    assert actual.endswith("é from ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff")


def test_password_in_place_of_the_user_name_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redaction, "_secrets", ["correct-horse"])
    assert requester_of(request(basic("correct-horse:x"))) == "[hidden] from 10.0.0.7"


def test_label_studio_is_named_by_its_door() -> None:
    assert label_studio_requester(request(basic("anna:p"))) == "Label Studio from 10.0.0.7"
