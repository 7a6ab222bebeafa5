"""A change of labels that no event has told of is a lost webhook; one that is told of a little late is none."""

from __future__ import annotations

import pytest

from services.adapter.training.announcements import GRACE_SECONDS, WebhookMonitor


@pytest.fixture
def project() -> WebhookMonitor:
    """Looked at once, at 1000."""
    found = WebhookMonitor()
    found.labels_read(1000.0, changed=True)
    return found


def test_the_first_look_says_nothing(project: WebhookMonitor) -> None:
    assert not project.is_silent(2000.0)


def test_a_change_that_no_event_tells_of_is_said_once(project: WebhookMonitor) -> None:
    project.labels_read(1060.0, changed=True)
    assert not project.is_silent(1060.0 + GRACE_SECONDS - 1)
    assert project.is_silent(1060.0 + GRACE_SECONDS)
    assert not project.is_silent(1060.0 + GRACE_SECONDS)


@pytest.mark.parametrize("heard", [975.0, 1000.0, 1059.0])
def test_an_event_since_the_look_before_has_told_of_it(project: WebhookMonitor, heard: float) -> None:
    project.event_received(heard)
    project.labels_read(1060.0, changed=True)
    assert not project.is_silent(2000.0)


def test_an_event_a_little_later_has_told_of_it(project: WebhookMonitor) -> None:
    project.labels_read(1060.0, changed=True)
    project.event_received(1065.0)
    assert not project.is_silent(2000.0)


def test_an_event_of_long_ago_has_not(project: WebhookMonitor) -> None:
    project.event_received(900.0)
    project.labels_read(1060.0, changed=True)
    assert project.is_silent(2000.0)


def test_a_look_that_finds_nothing_is_no_mark(project: WebhookMonitor) -> None:
    project.labels_read(1060.0, changed=False)
    assert not project.is_silent(2000.0)


def test_changes_one_after_the_other_are_one_until_they_are_said(project: WebhookMonitor) -> None:
    project.labels_read(1015.0, changed=True)
    project.labels_read(1030.0, changed=True)
    assert project.is_silent(1015.0 + GRACE_SECONDS)
    assert not project.is_silent(1100.0)


@pytest.mark.parametrize(("recalled", "known"), [(None, 800.0), (900.0, 900.0)])
def test_the_last_event_is_known_from_an_earlier_leader(recalled: float | None, known: float) -> None:
    project = WebhookMonitor()
    project.restore(recalled)
    assert project.last_event_at == recalled
    project.event_received(800.0)
    project.restore(100.0)
    assert project.last_event_at == known
