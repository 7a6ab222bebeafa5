"""Failed logins of an address: how long answers are held back, what is remembered, and what the log says."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from services.adapter.routes import logins
from services.adapter.routes.logins import FREE_FAILURES, MAX_DELAYED_PER_PEER, RESET_SECONDS, LoginAttempts


def failed(found: LoginAttempts, address: str, times: int, now: float = 0.0) -> list[float]:
    return [found.record_failure(address, now) for _ in range(times)]


def test_the_first_failures_cost_nothing_and_the_next_ones_twice_as_much_each() -> None:
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


def test_many_held_answers_close_an_address_unless_it_logged_in_lately() -> None:
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
    said = [(line["event"], line["peer"], line["failures"]) for line in lines]
    assert said == [("login_failed", "10.0.0.7", 1), ("login_failed", "10.0.0.7", 50)]


def test_addresses_without_end_are_not_all_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logins, "_PEERS", 10)
    found = LoginAttempts()
    found.count_delayed("10.1.0.1", 1)
    for number in range(100):
        found.record_failure(f"10.0.0.{number}", 0.0)
    assert len(found.peers) == 10
    assert "10.1.0.1" in found.peers
