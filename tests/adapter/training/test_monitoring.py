"""An unannounced change of labels indicates a lost webhook; agreement compares labels with suggestions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter.state.board import Agreement
from services.adapter.training.monitoring import GRACE_SECONDS, WebhookMonitor, agreement_of
from tests.support.fakes import LABELS, SPACE


@pytest.fixture
def project() -> WebhookMonitor:
    """Polled once, at 1000."""
    found = WebhookMonitor()
    found.labels_read(1000.0, changed=True)
    return found


def test_first_poll_reports_nothing(project: WebhookMonitor) -> None:
    assert not project.is_silent(2000.0)


def test_unannounced_change_is_reported_once(project: WebhookMonitor) -> None:
    project.labels_read(1060.0, changed=True)
    assert not project.is_silent(1060.0 + GRACE_SECONDS - 1)
    assert project.is_silent(1060.0 + GRACE_SECONDS)
    assert not project.is_silent(1060.0 + GRACE_SECONDS)


@pytest.mark.parametrize("heard", [975.0, 1000.0, 1059.0])
def test_event_since_the_last_poll_announces_a_change(project: WebhookMonitor, heard: float) -> None:
    project.event_received(heard)
    project.labels_read(1060.0, changed=True)
    assert not project.is_silent(2000.0)


def test_event_shortly_after_announces_a_change(project: WebhookMonitor) -> None:
    project.labels_read(1060.0, changed=True)
    project.event_received(1065.0)
    assert not project.is_silent(2000.0)


def test_old_event_does_not_announce_a_change(project: WebhookMonitor) -> None:
    project.event_received(900.0)
    project.labels_read(1060.0, changed=True)
    assert project.is_silent(2000.0)


def test_poll_without_changes_reports_nothing(project: WebhookMonitor) -> None:
    project.labels_read(1060.0, changed=False)
    assert not project.is_silent(2000.0)


def test_consecutive_changes_are_reported_once(project: WebhookMonitor) -> None:
    project.labels_read(1015.0, changed=True)
    project.labels_read(1030.0, changed=True)
    assert project.is_silent(1015.0 + GRACE_SECONDS)
    assert not project.is_silent(1100.0)


@pytest.mark.parametrize(("recalled", "known"), [(None, 800.0), (900.0, 900.0)])
def test_last_event_of_an_earlier_leader_is_restored(recalled: float | None, known: float) -> None:
    project = WebhookMonitor()
    project.restore(recalled)
    assert project.last_event_at == recalled
    project.event_received(800.0)
    project.restore(100.0)
    assert project.last_event_at == known


def stamp(second: int) -> str:
    return f"2026-11-25T10:{second // 60:02}:{second % 60:02}Z"


def build_result(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "sentiment", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]


def build_annotation(label: str, second: int, **more: Any) -> dict[str, Any]:
    return {
        "id": second,
        "result": build_result(label),
        "was_cancelled": False,
        "created_at": stamp(second),
        **more,
    }


def build_prediction(label: str, second: int, number: int = 1) -> dict[str, Any]:
    return {"id": number, "result": build_result(label), "created_at": stamp(second), "model_version": "v-1"}


def build_task(annotations: list[Any], predictions: list[Any]) -> dict[str, Any]:
    return {"id": 1, "annotations": annotations, "predictions": predictions}


def test_annotation_is_compared_with_newest_earlier_suggestion() -> None:
    stored = [
        build_prediction("Negative", 1),
        build_prediction("Positive", 5, 2),
        build_prediction("Neutral", 30, 3),
    ]
    assert agreement_of(SPACE, [build_task([build_annotation("Positive", 10)], stored)]) == Agreement(1, 1)
    assert agreement_of(SPACE, [build_task([build_annotation("Neutral", 10)], stored)]) == Agreement(0, 1)


def test_parent_prediction_takes_precedence() -> None:
    stored = [build_prediction("Negative", 1), build_prediction("Positive", 5, 2)]
    begun = build_annotation("Negative", 10, parent_prediction=1)
    assert agreement_of(SPACE, [build_task([begun], stored)]) == Agreement(1, 1)
    gone = build_annotation("Negative", 10, parent_prediction=99)
    assert agreement_of(SPACE, [build_task([gone], stored)]) == Agreement(0, 1)


def test_annotations_without_suggestion_do_not_count() -> None:
    late = build_prediction("Positive", 30)
    cancelled = build_annotation("Positive", 40, was_cancelled=True)
    empty = {**build_annotation("Positive", 40), "result": []}
    foreign = build_annotation("Elsewhere", 40)
    tasks = [
        build_task([build_annotation("Positive", 10)], [late]),
        build_task([build_annotation("Positive", 10)], []),
        build_task([cancelled, empty, foreign], [late]),
        {"id": 2},
    ]
    assert agreement_of(SPACE, tasks) == Agreement(0, 0)
    of_another_question = {**late, "result": [{"from_name": "topic", "value": {"choices": ["x"]}}]}
    assert agreement_of(
        SPACE, [build_task([build_annotation("Positive", 40)], [of_another_question])]
    ) == Agreement(0, 0)


def test_only_the_newest_annotations_count() -> None:
    tasks = [
        build_task(
            [build_annotation("Positive", second)],
            [build_prediction("Positive" if second > 50 else "Negative", 1)],
        )
        for second in range(2, 102)
    ]
    assert agreement_of(SPACE, tasks, most=51) == Agreement(51, 51)
    assert agreement_of(SPACE, tasks, most=100) == Agreement(51, 100)


@given(
    st.lists(
        st.tuples(st.sampled_from(LABELS), st.sampled_from(LABELS), st.integers(0, 59), st.integers(0, 59))
    )
)
def test_agreed_never_exceeds_annotations(rows: list[tuple[str, str, int, int]]) -> None:
    tasks = [
        build_task([build_annotation(label, at)], [build_prediction(shown, before)])
        for label, shown, at, before in rows
    ]
    found = agreement_of(SPACE, tasks)
    assert 0 <= found.agreed <= found.annotations == sum(before <= at for _, _, at, before in rows)
