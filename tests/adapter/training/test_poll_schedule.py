"""Polls are as often as labels change, and an event is not waited for."""

from __future__ import annotations

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
    assert schedule.due_at() == NOW + 2.0
    schedule.began(NOW + 2.0)
    assert schedule.burst is None
    assert intervals(schedule, 2) == [15.0, 30.0]


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
    assert (schedule.due_at(), schedule.burst) == (NOW + 4.0, None)
