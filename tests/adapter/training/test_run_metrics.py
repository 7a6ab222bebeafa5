"""Every run's start and end is counted once, over changes of the leader."""

from __future__ import annotations

from dataclasses import replace

import pytest

from services.adapter.metrics import leader_metrics
from services.adapter.state.board import Figures, ProjectView
from services.adapter.state.project_state import RunRecord
from services.adapter.training.run_metrics import RunMetrics
from services.core.domain import Attempt, LaunchState, Parameters, Project, RunRequest, RunState, RunStatus

PROJECT = Project("31-1", 31, "Support", "<View/>", "hash", "2026-11-23T22:35:52Z")
REQUEST = RunRequest("31-1", PROJECT.key, 31, "asked for", Parameters(), 100.0)
WAITING = RunRecord(REQUEST)
RUNNING = RunRecord(REQUEST, LaunchState("31-1", (Attempt(1, 130.0),)))
DONE = RunRecord(REQUEST, LaunchState("31-1", (Attempt(1, 130.0, 190.0, 0),), RunState.DONE))


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """The calls that count, in order."""
    made: list[tuple[object, ...]] = []
    monkeypatch.setattr(
        leader_metrics, "observe_run_started", lambda seconds: made.append(("started", seconds))
    )
    monkeypatch.setattr(
        leader_metrics,
        "observe_run_ended",
        lambda project, outcome, seconds: made.append((project, outcome.value, seconds)),
    )
    return made


def test_run_is_counted_once_at_start_and_once_at_end(calls: list[object]) -> None:
    run_metrics = RunMetrics(31)
    run_metrics.begin([], None)
    for record in (WAITING, RUNNING, RUNNING, DONE, DONE):
        run_metrics.count([record])
    assert calls == [("started", 30.0), (31, "done", 60.0)]


def test_run_ended_before_this_term_is_not_counted_again(calls: list[object]) -> None:
    run_metrics = RunMetrics(31)
    run_metrics.begin([DONE], None)
    run_metrics.count([DONE])
    assert calls == []


def test_run_ended_without_a_leader_is_counted_by_the_next(calls: list[object]) -> None:
    shown = ProjectView(PROJECT, active=RunStatus("31-1", RunState.WAITING))
    run_metrics = RunMetrics(31)
    run_metrics.begin([DONE], shown)
    run_metrics.count([DONE])
    assert calls == [("started", 30.0), (31, "done", 60.0)]


def test_start_on_the_last_board_is_not_counted_again(calls: list[object]) -> None:
    shown = ProjectView(
        PROJECT, active=RunStatus("31-1", RunState.RUNNING), figures=Figures(started_at=130.0)
    )
    run_metrics = RunMetrics(31)
    run_metrics.begin([RUNNING], shown)
    run_metrics.count([RUNNING])
    run_metrics.count([DONE])
    assert calls == [(31, "done", 60.0)]


def test_restart_in_the_same_term_keeps_the_counts(calls: list[object]) -> None:
    run_metrics = RunMetrics(31)
    run_metrics.begin([], None)
    run_metrics.count([DONE])
    run_metrics.begin([DONE], ProjectView(PROJECT, active=RunStatus("31-1", RunState.RUNNING)))
    run_metrics.count([DONE])
    assert len(calls) == 2


def test_run_without_a_process_has_no_duration(calls: list[object]) -> None:
    run_metrics = RunMetrics(31)
    run_metrics.begin([], None)
    run_metrics.count([replace(WAITING, launch=LaunchState("31-1", (), RunState.CANCELLED))])
    assert calls == [(31, "cancelled", None)]


def test_cancelled_run_without_an_end_has_no_duration(calls: list[object]) -> None:
    run_metrics = RunMetrics(31)
    run_metrics.begin([], None)
    run_metrics.count(
        [replace(RUNNING, launch=LaunchState("31-1", (Attempt(1, 130.0),), RunState.CANCELLED))]
    )
    assert calls == [("started", 30.0), (31, "cancelled", None)]
