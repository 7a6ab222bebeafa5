"""A leader that does no work resigns and waits before it stands again; pure, on clocks that tests set."""

from __future__ import annotations

import threading

from services.adapter.liveness import MAX_FAILING_SECONDS, Heartbeat, TermHealth


def fail_until_resigned(health: TermHealth, now: float) -> float:
    """Begin a term at `now` in which each tick fails; return the seconds to wait."""
    health.begin(now)
    for passed in range(20):
        if (wait := health.failed(now + passed, now + passed + 0.5)) is not None:
            assert passed + 0.5 >= MAX_FAILING_SECONDS > passed - 0.5
            return wait
    raise AssertionError


def test_leader_resigns_when_ticks_fail_for_15_s() -> None:
    health = TermHealth()
    health.begin(0.0)
    assert health.failed(0.0, 14.9) is None
    assert health.failed(15.0, 15.0) == 30.0


def test_tick_that_succeeds_in_between_counts() -> None:
    health = TermHealth()
    health.begin(0.0)
    assert health.failed(0.0, 1.0) is None
    health.succeeded(14.0)
    assert health.failed(15.0, 16.0) is None
    assert health.failed(16.0, 29.9) is None
    assert health.failed(30.0, 30.0) == 30.0


def test_sleep_before_the_first_failure_does_not_count() -> None:
    health = TermHealth()
    health.begin(0.0)
    health.succeeded(1.0)
    assert health.failed(3600.0, 3610.0) is None


def test_wait_doubles_up_to_four_minutes() -> None:
    health = TermHealth()
    assert [fail_until_resigned(health, now * 1000.0) for now in range(6)] == [
        30.0,
        60.0,
        120.0,
        240.0,
        240.0,
        240.0,
    ]


def test_only_a_good_term_ends_the_doubling() -> None:
    health = TermHealth()
    assert fail_until_resigned(health, 0.0) == 30.0
    health.begin(100.0)
    health.succeeded(101.0)
    assert fail_until_resigned(health, 200.0) == 60.0
    health.begin(300.0)
    health.succeeded(360.0)
    assert fail_until_resigned(health, 400.0) == 30.0


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def watched() -> tuple[Heartbeat, Clock]:
    clock = Clock()
    return Heartbeat(clock), clock


def seconds_until_silent(heart: Heartbeat, clock: Clock, look: float = 2.0) -> float:
    began = clock.now
    while not heart.is_silent():
        clock.now += look
        assert clock.now - began < 1000
    return clock.now - began


def test_thread_without_progress_is_silent_after_15_s() -> None:
    heart, clock = watched()
    heart.beat()
    assert seconds_until_silent(heart, clock) == 16.0
    heart.beat()
    assert not heart.is_silent()


def test_progress_within_a_long_tick_counts() -> None:
    heart, clock = watched()
    for _ in range(60):
        heart.beat()
        clock.now += 2.0
        assert not heart.is_silent()


def test_stopped_process_is_not_silent() -> None:
    heart, clock = watched()
    heart.beat()
    assert not heart.is_silent()
    clock.now += 3600.0
    assert not heart.is_silent()
    assert seconds_until_silent(heart, clock) == 12.0


def test_progress_of_another_thread_does_not_count() -> None:
    heart, clock = watched()
    heart.own()
    worker = threading.Thread(target=heart.beat)
    worker.start()
    worker.join()
    assert seconds_until_silent(heart, clock) == 16.0
