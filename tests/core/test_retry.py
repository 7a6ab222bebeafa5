"""Back-off doubles up to its longest pause, and a problem is news once."""

from __future__ import annotations

from services.core.retry import Backoff, CircuitBreaker, LogOnce


def test_pause_doubles_with_each_failure_in_a_row() -> None:
    backoff = Backoff(first=1.0, longest=5.0)

    assert [backoff.next() for _ in range(5)] == [1.0, 2.0, 4.0, 5.0, 5.0]

    backoff.succeeded()
    assert backoff.next() == 1.0


def test_next_try_is_due_after_the_pause() -> None:
    backoff = Backoff()

    assert (backoff.failed(100.0), backoff.until) == (1.0, 101.0)
    assert (backoff.failed(101.0), backoff.until) == (2.0, 103.0)

    backoff.succeeded()
    assert backoff.until == 0.0


def test_pause_is_as_long_as_a_slow_try_took() -> None:
    backoff = Backoff()

    assert (backoff.failed(100.0, took=30.0), backoff.until) == (30.0, 160.0)


def test_problem_is_new_once_until_it_changes_or_ends() -> None:
    logged = LogOnce()

    assert [logged.is_new(problem) for problem in ("a", "a", "b", "b", "a")] == [
        True,
        False,
        True,
        False,
        True,
    ]

    assert [logged.resolved(), logged.resolved()] == [True, False]
    assert logged.is_new("a")


def test_breaker_opens_after_failures_in_a_row_only() -> None:
    breaker = CircuitBreaker(threshold=2)

    breaker.failed(0.0)
    breaker.succeeded()
    breaker.failed(1.0)
    assert (breaker.is_open, breaker.allow(1.0)) == (False, True)

    breaker.failed(1.0)
    assert (breaker.is_open, breaker.allow(1.0)) == (True, False)


def test_open_breaker_allows_one_request_per_pause() -> None:
    breaker = CircuitBreaker(threshold=1, backoff=Backoff(first=2.0))

    breaker.failed(0.0)
    assert [breaker.allow(1.9), breaker.allow(2.0), breaker.allow(9.0)] == [False, True, False]

    breaker.failed(10.0)
    assert [breaker.allow(13.9), breaker.allow(14.0)] == [False, True]

    breaker.succeeded()
    assert [breaker.allow(14.0), breaker.allow(14.0)] == [True, True]


def test_late_failures_do_not_lengthen_the_pause() -> None:
    breaker = CircuitBreaker(threshold=2, backoff=Backoff(first=2.0))

    for at in (0.0, 1.0, 2.0, 2.5):
        breaker.failed(at)

    assert breaker.allow(3.0)
