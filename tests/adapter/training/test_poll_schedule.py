"""Polls are as often as labels change, and an event is not waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.training.poll_schedule import PollSchedule
from services.core.settings import TriggerSettings

NOW = 1_000.0


def build_schedule(seconds: float = 15.0, most: float = 60.0) -> PollSchedule:
    return PollSchedule(
        TriggerSettings(debounce_seconds=2.0, reconcile_seconds=seconds, reconcile_max_seconds=most)
    )


def intervals(schedule: PollSchedule, polls: int, *, is_unchanged: bool = True) -> list[float]:
    found = []
    for _ in range(polls):
        schedule.succeeded(NOW, is_unchanged=is_unchanged)
        found.append(schedule.due_at() - NOW)
    return found


def test_first_poll_is_due_at_once() -> None:
    assert build_schedule().due_at() == 0.0


def test_interval_doubles_while_nothing_changes() -> None:
    schedule = build_schedule()
    assert intervals(schedule, 5) == [15.0, 30.0, 60.0, 60.0, 60.0]
    assert intervals(schedule, 2, is_unchanged=False) == [15.0, 15.0]


def test_interval_is_never_less_than_the_setting() -> None:
    assert intervals(build_schedule(120.0), 3) == [120.0, 120.0, 120.0]


def test_an_event_resets_the_interval() -> None:
    schedule = build_schedule()
    intervals(schedule, 4)
    schedule.event_received(NOW)
    assert schedule.due_at() == NOW, "a quiet project is polled at once"
    schedule.began(NOW)
    assert intervals(schedule, 1, is_unchanged=False) == [15.0]
    assert intervals(schedule, 1, is_unchanged=False) == [15.0]


def test_events_after_a_poll_are_polled_together() -> None:
    schedule = build_schedule()
    schedule.event_received(NOW)
    schedule.began(NOW)
    schedule.succeeded(NOW + 0.1, is_unchanged=False)
    for at in (0.2, 0.5, 1.0):
        schedule.event_received(NOW + at)
        assert schedule.due_at() == NOW + 2.0
    schedule.began(NOW + 2.0)
    schedule.succeeded(NOW + 2.9, is_unchanged=False)
    schedule.event_received(NOW + 3.0)
    assert schedule.due_at() == pytest.approx(NOW + 2.0 + 4.5), "five times the 0.9 s that the poll took"


def test_change_that_is_not_visible_yet_is_looked_for_twice() -> None:
    schedule = build_schedule()
    schedule.event_received(NOW)
    now, looks = NOW, []
    for _ in range(4):
        schedule.began(now)
        schedule.succeeded(now, is_unchanged=True)
        looks.append(schedule.due_at() - now)
        now = schedule.due_at()
    assert looks[:2] == [0.25, 1.0]
    assert min(looks[2:]) >= 15.0
    schedule.event_received(now)
    schedule.began(now)
    schedule.succeeded(now, is_unchanged=False)
    assert schedule.due_at() >= now + 15.0


@given(st.lists(st.floats(0.01, 12.0), min_size=1, max_size=60), st.floats(0.0, 3.0))
def test_each_event_is_followed_by_a_poll_in_time(gaps: list[float], took: float) -> None:
    schedule, now, polls = build_schedule(), NOW, [NOW]
    schedule.began(now)
    schedule.succeeded(now, is_unchanged=False)
    for gap in gaps:
        now += gap
        while (due := schedule.due_at()) < now:
            schedule.began(due)
            schedule.succeeded(min(due + took, now), is_unchanged=False)
            polls.append(due)
        schedule.event_received(now)
        assert now <= schedule.due_at() <= now + 10.0
        if now >= polls[-1] + 10.0:
            assert schedule.due_at() == now


def test_events_are_quiet_after_a_pause() -> None:
    schedule = build_schedule()
    assert schedule.quiet_at < NOW
    for at in (0.0, 1.5, 3.0):
        schedule.event_received(NOW + at)
        assert schedule.quiet_at == NOW + at + 2.0
    schedule.event_received(NOW + 60.0)
    assert schedule.quiet_at == NOW + 62.0


def test_poll_soon_is_at_once() -> None:
    schedule = build_schedule()
    intervals(schedule, 4)
    schedule.poll_soon()
    assert schedule.due_at() == 0.0


def test_no_poll_while_label_studio_is_away() -> None:
    schedule = build_schedule()
    schedule.postpone(NOW + 9.0)
    schedule.event_received(NOW)
    assert schedule.due_at() == schedule.due_at(0.0) == NOW + 9.0
    assert schedule.is_blocked(NOW)
    assert not schedule.is_blocked(NOW + 9.0)


def test_a_failed_poll_is_retried_when_told() -> None:
    schedule = build_schedule()
    schedule.event_received(NOW)
    schedule.failed(NOW + 4.0)
    assert schedule.due_at() == NOW + 4.0
