"""Projects as a label: bounded, stable, and gone with the project."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from services.adapter import metrics
from services.adapter.metrics import leader_metrics
from services.adapter.metrics.leader_metrics import OTHER, ProjectNames
from services.core.domain import GateDecision, RunState


def test_the_first_projects_keep_their_labels() -> None:
    names = ProjectNames(2)
    assert [names.label_of(number) for number in (5, 9, 7, 5)] == ["5", "9", OTHER, "5"]
    names.remove(5)
    assert [names.label_of(number) for number in (7, 5, 9)] == ["7", OTHER, "9"]


@given(st.lists(st.integers(1, 50)), st.integers(1, 5))
def test_there_are_never_more_names_than_allowed(asked: list[int], most: int) -> None:
    names = ProjectNames(most)
    assert len({names.label_of(number) for number in asked} - {OTHER}) <= most


def series(name: str) -> dict[tuple[str, ...], float]:
    """Of the leader's counters: values by their labels' values."""
    found = [metric for counted in leader_metrics.LEADER_METRICS for metric in counted.collect()]
    samples = [sample for metric in found for sample in metric.samples if sample.name == name]
    return {tuple(sample.labels.values()): sample.value for sample in samples}


def test_a_projects_counters_begin_at_zero_and_end_with_it() -> None:
    leader_metrics.add_project(777)
    ended = series("fitloop_runs_finished_total")
    assert {key[1]: value for key, value in ended.items() if key[0] == "777"} == {
        "done": 0,
        "failed": 0,
        "cancelled": 0,
    }
    actual = {key[1:] for key in series("fitloop_gate_decisions_total") if key[0] == "777"}
    assert actual == {
        (decision, kind) for decision, kinds in leader_metrics.GATE_KINDS.items() for kind in kinds
    }
    assert series("fitloop_project_unannounced_changes_total")["777",] == 0
    leader_metrics.observe_run_ended(777, RunState.FAILED, None)
    leader_metrics.count_decision(777, GateDecision(False, "worse", ()))
    leader_metrics.count_unannounced(777)
    assert series("fitloop_runs_finished_total")["777", "failed"] == 1
    assert series("fitloop_gate_decisions_total")["777", "hold", "worse"] == 1
    metrics.forget_project(777)
    assert not [key for name in ("fitloop_runs_finished_total",) for key in series(name) if key[0] == "777"]


def test_a_reason_that_the_gate_did_not_have_is_other() -> None:
    leader_metrics.count_decision(778, GateDecision(True, "of a newer release", ()))
    assert series("fitloop_gate_decisions_total")["778", "promote", OTHER] == 1
    metrics.forget_project(778)


def test_every_class_of_answers_is_there_from_the_start() -> None:
    for status in ("2xx", "3xx", "4xx", "5xx"):  # a page answers a form with 303
        labels = {"route": "/projects/{id}/{action}", "status": status}
        assert REGISTRY.get_sample_value("fitloop_responses_total", labels) is not None, status
