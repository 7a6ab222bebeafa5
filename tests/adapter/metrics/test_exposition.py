"""Metrics from the board: the leader exports all projects, followers what they serve; unknown values are left out."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from services.adapter import metrics
from services.adapter.follower import BOARD_SECONDS
from services.adapter.metrics import leader_metrics
from services.adapter.metrics.exposition import PROJECT_GAUGES, BoardCollector, ProcessCollector
from services.adapter.metrics.leader_metrics import ProjectNames
from services.adapter.ports import RolloutStatus
from services.adapter.state.board import (
    Agreement,
    Board,
    CurrentVersion,
    Figures,
    LatestDecision,
    ProjectView,
)
from services.adapter.state.board_file import BOARD_KEY, BoardDocument
from services.adapter.state.help import HelpMeasures
from services.core import documents
from services.core.domain import (
    Action,
    Estimate,
    EstimateErrors,
    ExpectedAccuracy,
    Forecast,
    Outlook,
    PoolState,
    Project,
    RunState,
    RunStatus,
    Selection,
    Served,
    Uncounted,
)
from services.core.errors import LabelStudioUnreachable, StoreError
from services.core.intervals import Interval
from tests.support.controller import ControllerWorld, build_settings
from tests.support.replicas import SimulatedReplica

Series = dict[str, dict[frozenset[str], float]]
NOW = 1_000_000.0


@pytest.fixture(autouse=True)
def _names(monkeypatch: pytest.MonkeyPatch) -> None:
    for project_id in list(
        leader_metrics.project_names._known
    ):  # other tests of this process have counted as well
        metrics.forget_project(project_id)
    monkeypatch.setattr(leader_metrics, "project_names", ProjectNames(3))


def scrape(board: Board, now: float = NOW) -> Series:
    """Values by name and labels, through Prometheus' own text format."""
    found: Series = {}
    text = generate_latest(BoardCollector(board, lambda: now)).decode()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset(f"{name}={value}" for name, value in sample.labels.items())
            found.setdefault(sample.name, {})[labels] = sample.value
    return found


def of(series: Series, name: str, **labels: str) -> float | None:
    wanted = frozenset(f"{key}={value}" for key, value in labels.items())
    return series.get(f"fitloop_{name}", {}).get(wanted)


def view(number: int = 5, **changes: object) -> ProjectView:
    project = Project(f"{number}-1", number, f"Reviews {number}", "<View/>", "hash", "2026-11-23T22:35:52Z")
    return replace(ProjectView(project), **changes)  # type: ignore[arg-type]  # names of fields


def board(*views: ProjectView, leads: bool = True) -> Board:
    made = Board()
    made.replace(views)
    made.is_leader = leads
    return made


CURRENT = CurrentVersion(
    "v-3",
    "linear-probe",
    "ct2-int8",
    Estimate(40, 30, 0.6, 0.86, 0.7, "cross-fit"),
    900.0,
    outlook=Outlook(300, 0.75, Forecast(600, 0.76, 0.82), 3, 4),
    expected=ExpectedAccuracy(0.8, 0.05, 2000),
)
RUN = RunStatus(
    "5-4",
    RunState.RUNNING,
    "fine-tuning fold 2",
    30,
    120,
    texts_per_second=80.0,
    seconds_left=12.0,
    resident_bytes=1000,
    gpu_memory_bytes=500,
    gpu_memory_limit_bytes=2000,
    gpu_utilization=0.5,
)
FULL = view(
    served=Served("v-3", "v-2", None, NOW - 500, "", pinned=True),
    labelled=31,
    changed=4,
    needed=10,
    problem="Something.",
    active=RUN,
    last=replace(
        RUN, seconds={"reading": 1.0, "fine-tuning fold 1": 2.0, "fine-tuning fold 2": 3.0, "dreaming": 4.0}
    ),
    paused=True,
    checked_at=NOW - 5,
    figures=Figures(
        oldest_waiting_at=NOW - 60,
        last_event_at=NOW - 50,
        stored_bytes=123,
        failed_in_a_row=2,
        held_in_a_row=3,
        requested_at=NOW - 90,
        started_at=NOW - 80,
        pending="no_gpu",
        current=CURRENT,
        rollout="blocked",
        rollout_since=NOW - 30,
        agreement=Agreement(30, 40),
        help=HelpMeasures(
            0.05,
            blind=50,
            accuracy=Interval(0.7, 0.6, 0.8),
            expected=0.72,
            accepted_wrong=Interval(0.3, 0.1, 0.5),
            seconds_blind=9.0,
            seconds_shown=6.0,
            saved_seconds=Interval(3.0, 2.0, 4.0),
            shown_this_week=100,
        ),
        judged=LatestDecision(False, "worse", NOW - 40),
        pool=PoolState(90, 12, 100),
        estimates=EstimateErrors(10, 0.03, 0.01, 0.02, 50, Selection.RANDOM),
    ),
    not_counted=(
        Uncounted("foreign_label", 20, ('"Shipping"',)),
        Uncounted("cancelled", 4),
        Uncounted("no_text", 3),
    ),
)


def test_a_leader_tells_all_that_is_known_of_a_project() -> None:
    series = scrape(board(FULL))
    assert of(series, "projects") == 1
    assert of(series, "runs", state="running") == 1
    assert of(series, "runs", state="waiting") == of(series, "runs", state="preempted") == 0
    plain = {
        "project_labels_waiting": 4,
        "project_labels_needed": 10,
        "project_labelled_tasks": 31,
        "project_oldest_waiting_label_timestamp_seconds": NOW - 60,
        "project_checked_timestamp_seconds": NOW - 5,
        "project_paused": 1,
        "project_pinned": 1,
        "project_problem": 1,
        "project_last_event_timestamp_seconds": NOW - 50,
        "project_stored_bytes": 123,
        "project_failed_runs": 2,
        "project_held_versions": 3,
        "run_progress_ratio": 0.25,
        "run_seconds_left": 12,
        "run_requested_timestamp_seconds": NOW - 90,
        "run_started_timestamp_seconds": NOW - 80,
        "run_texts_per_second": 80,
        "run_resident_bytes": 1000,
        "run_gpu_memory_bytes": 500,
        "run_gpu_memory_limit_bytes": 2000,
        "run_gpu_utilization_ratio": 0.5,
        "version_score_ratio": 0.75,
        "version_score_low_ratio": 0.6,
        "version_score_high_ratio": 0.86,
        "version_judged_texts": 40,
        "version_expected_ratio": 0.8,
        "version_expected_margin_ratio": 0.05,
        "estimate_error_ratio": 0.03,
        "estimate_chance_ratio": 0.02,
        "estimate_scored_versions": 10,
        "version_served_timestamp_seconds": NOW - 500,
        "version_created_timestamp_seconds": 900,
        "rollout_started_timestamp_seconds": NOW - 30,
        "agreement_ratio": 0.75,
        "agreement_annotations": 40,
        "blind_annotations": 50,
        "blind_accuracy_ratio": 0.7,
        "blind_expected_ratio": 0.72,
        "wrong_suggestions_accepted_ratio": 0.3,
        "saved_seconds": 300,
        "saved_low_seconds": 200,
        "saved_high_seconds": 400,
        "forecast_low_ratio": 0.76,
        "forecast_high_ratio": 0.82,
        "forecasts_scored": 4,
        "forecasts_held": 3,
    }
    assert {name: of(series, name, project="5") for name in plain} == plain
    assert of(series, "project_info", project="5", title="Reviews 5") == 1
    assert of(series, "run_info", project="5", run="5-4") == 1
    assert of(series, "run_stage", project="5", stage="fine-tuning") == 1
    assert of(series, "run_pending", project="5", reason="no_gpu") == 1
    decided = of(series, "gate_decided_timestamp_seconds", project="5", decision="hold", kind="worse")
    assert decided == NOW - 40
    assert (
        of(series, "version_info", project="5", version="v-3", method="linear-probe", engine="ct2-int8") == 1
    )
    assert [
        of(series, "rollout_state", project="5", state=state) for state in ("settled", "moving", "blocked")
    ] == [
        0,
        0,
        1,
    ]
    spent = {
        stage: of(series, "run_stage_seconds", project="5", stage=stage)
        for stage in ("reading", "fine-tuning", "other")
    }
    assert spent == {"reading": 1, "fine-tuning": 5, "other": 4}


def test_every_gauge_is_told_of_a_project_of_which_all_is_known() -> None:
    series = scrape(board(FULL))
    assert {gauge.name for gauge in PROJECT_GAUGES} <= series.keys()


def test_annotations_that_do_not_count_are_told_by_reason() -> None:
    series = scrape(board(FULL))
    assert series["fitloop_project_annotations_not_counted"] == {
        frozenset({"project=5", "reason=foreign_label"}): 20,
        frozenset({"project=5", "reason=cancelled"}): 4,
    }


def test_tasks_that_do_not_count_are_told_by_reason() -> None:
    series = scrape(board(FULL))
    assert series["fitloop_project_tasks_not_counted"] == {frozenset({"project=5", "reason=no_text"}): 3}


def test_what_is_not_known_is_absent_and_never_zero() -> None:
    series = scrape(board(view()))
    stamps = [name for name in series if name.endswith("_timestamp_seconds")]
    assert stamps == []
    assert not [
        name
        for name in series
        if name.startswith(("fitloop_run_", "fitloop_version_"))
        and "_bucket" not in name
        and not name.endswith(("_count", "_sum", "_created"))
    ]
    assert of(series, "agreement_ratio", project="5") is None
    assert of(series, "project_labels_waiting", project="5") is None
    assert of(series, "project_labelled_tasks", project="5") is None
    assert of(series, "rollout_state", project="5", state="settled") == 1


def test_a_run_that_waits_for_another_process_takes_up_nothing() -> None:
    series = scrape(board(replace(FULL, waiting="its pod was evicted")))
    assert of(series, "run_info", project="5", run="5-4") == 1
    for name in ("resident_bytes", "gpu_memory_bytes", "gpu_utilization_ratio", "texts_per_second"):
        assert of(series, f"run_{name}", project="5") is None


def test_an_unknown_gate_kind_is_exported_as_other() -> None:
    newer = replace(FULL, figures=Figures(judged=LatestDecision(True, "of a newer release", NOW)))
    series = scrape(board(newer))
    decided = of(series, "gate_decided_timestamp_seconds", project="5", decision="promote", kind="other")
    assert decided == NOW


def test_a_follower_tells_what_it_serves_and_nothing_else() -> None:
    leader_metrics.add_project(5)
    series = scrape(board(FULL, leads=False))
    metrics.forget_project(5)
    assert series == {"fitloop_served_version_info": {frozenset({"project=5", "version=v-3"}): 1.0}}


def test_version_before_is_exported_until_the_flip_time() -> None:
    soon = replace(FULL, served=Served("v-4", "v-3", None, NOW + 1))
    series = scrape(board(soon))
    assert of(series, "served_version_info", project="5", version="v-3") == 1
    assert of(series, "version_served_timestamp_seconds", project="5") is None
    later = scrape(board(soon), NOW + 2)
    assert of(later, "served_version_info", project="5", version="v-4") == 1
    assert of(later, "version_score_ratio", project="5") is None  # the manifest that is known is the other's


def test_a_version_that_nobody_has_judged_has_no_score() -> None:
    unjudged = replace(CURRENT, estimate=Estimate(0, 0, 0.0, 1.0, 0.0, "holdout"))
    series = scrape(board(replace(FULL, figures=Figures(current=unjudged))))
    assert of(series, "version_score_ratio", project="5") is None
    assert of(series, "version_judged_texts", project="5") == 0


def test_projects_beyond_the_cap_are_summed_up_or_left_out() -> None:
    series = scrape(board(*(replace(FULL, project=view(number).project) for number in range(1, 8))))
    assert of(series, "projects") == 7
    assert of(series, "project_labels_waiting", project="other") == 4 * 4
    assert of(series, "rollout_state", project="other", state="blocked") == 4
    assert of(series, "version_score_ratio", project="other") is None
    assert {
        label
        for name in series
        for labels in series[name]
        for label in labels
        if label.startswith("project=")
    } == {
        "project=1",
        "project=2",
        "project=3",
        "project=other",
    }


def test_alerts_see_the_worst_of_the_projects_beyond_the_cap() -> None:
    def one(number: int, **changes: Any) -> ProjectView:
        figures = Figures(**changes.pop("figures", {}))
        return replace(FULL, project=view(number).project, figures=figures, **{"paused": False, **changes})

    series = scrape(
        board(
            *(one(number) for number in range(1, 4)),
            one(4, figures={"failed_in_a_row": 9}, paused=True, checked_at=NOW - 30),
            one(5, figures={"failed_in_a_row": 2, "held_in_a_row": 3}, checked_at=NOW - 900),
            one(6, figures={"requested_at": NOW - 50, "pending": "no_gpu"}, changed=10, needed=10),
            one(7, figures={"requested_at": NOW - 90, "pending": "turn", "oldest_waiting_at": NOW - 70}, changed=9, needed=10),
            one(8, figures={"oldest_waiting_at": NOW - 60}, changed=10, needed=10),
            one(9, figures={"oldest_waiting_at": NOW - 80, "started_at": NOW}, changed=10, needed=10),
            one(10, figures={"rollout_since": NOW - 20}),
            one(11, figures={"rollout_since": NOW - 10}),
        )
    )  # fmt: skip
    actual = {
        name: of(series, name, project="other")
        for name in (
            "project_failed_runs", "project_held_versions", "project_checked_timestamp_seconds", "run_requested_timestamp_seconds",
            "project_oldest_waiting_label_timestamp_seconds", "rollout_started_timestamp_seconds",
        )
    }  # fmt: skip
    assert actual == {
        "project_failed_runs": 2,
        "project_held_versions": 3,
        "project_checked_timestamp_seconds": NOW - 900,
        "run_requested_timestamp_seconds": NOW - 50,
        "project_oldest_waiting_label_timestamp_seconds": NOW - 60,
        "rollout_started_timestamp_seconds": NOW - 20,
    }


def test_problems_of_paused_projects_beyond_the_cap_do_not_count() -> None:
    many = (
        replace(FULL, project=view(number).project, problem="x", paused=number % 2 == 0)
        for number in range(1, 9)
    )
    series = scrape(board(*many))
    assert of(series, "project_problem", project="other") == 2


def test_beside_it_stands_all_that_the_process_counts() -> None:
    text = generate_latest(ProcessCollector(BoardCollector(board(FULL)))).decode()
    assert "fitloop_leader " in text
    assert 'fitloop_project_labels_waiting{project="5"} 4.0' in text
    leader_metrics = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(leader_metrics) == len(set(leader_metrics))


def figures(world: ControllerWorld) -> Figures:
    return world.view.figures


@pytest.fixture
def world() -> Iterator[ControllerWorld]:
    yield ControllerWorld.connected()
    metrics.forget_project(1)


def counted(series: Series, name: str, **labels: str) -> float | None:
    return of(series, name, project="1", **labels)


def test_a_whole_loop_as_prometheus_sees_it(world: ControllerWorld) -> None:
    labelled = world.label_studio.label_many(6)
    world.event()
    world.settle(1)
    series = scrape(world.board, world.now)
    assert counted(series, "run_info", run="1-1") == 1
    oldest = min(
        task["updated_at"] for task in world.label_studio.tasks[1].values() if task["id"] in labelled
    )
    assert figures(world).oldest_waiting_at is not None
    assert oldest.startswith(
        time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(figures(world).oldest_waiting_at))
    )
    version = world.complete_run("1-1")
    series = scrape(world.board, world.now)
    assert counted(series, "runs_finished_total", outcome="done") == 1
    assert counted(series, "gate_decisions_total", decision="promote", kind="first") == 1
    decided = counted(series, "gate_decided_timestamp_seconds", decision="promote", kind="first")
    assert NOW < (decided or 0) <= world.now
    assert counted(series, "version_info", version=version, method="linear-probe", engine="torch-fp32") == 1
    stored = counted(series, "project_stored_bytes")
    assert (stored or 0) > 1000, "a manifest at least"
    assert counted(series, "project_oldest_waiting_label_timestamp_seconds") is None
    assert series["fitloop_rollout_seconds_count"][frozenset()] >= 1
    world.restart()
    world.settle()
    again = scrape(world.board, world.now)
    for name in ("runs_finished_total", "gate_decisions_total"):
        assert again[f"fitloop_{name}"] == series[f"fitloop_{name}"], "a restart counts nothing twice"
    assert counted(again, "gate_decided_timestamp_seconds", decision="promote", kind="first") == decided


def test_held_versions_are_counted_until_a_promotion(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    first = world.complete_run("1-1")
    for number in (2, 3):
        world.label_studio.label_many(6)
        world.settle()
        world.complete_run(f"1-{number}", promote=False)
        assert figures(world).held_in_a_row == number - 1
    world.restart()
    world.settle()
    assert figures(world).held_in_a_row == 2
    world.now += 60
    world.command(Action.PROMOTE, first.replace("-1", "-2"))
    world.settle()
    assert figures(world).held_in_a_row == 0


def test_failures_in_a_row_end_with_a_run_that_does_not_fail(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    world.end("1-1", RunState.FAILED, 1)
    world.settle()
    assert figures(world).failed_in_a_row == 1


def test_a_rollout_exports_its_start_and_state(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    world.rollout.slow["support-1"] = RolloutStatus(done=False, reason="1 of 2 predictors holds it")
    world.train("1-1")
    world.end("1-1")
    world.tick(1.0)
    began = world.now
    assert (figures(world).rollout, figures(world).rollout_since) == ("moving", began)
    world.rollout.slow["support-1"] = RolloutStatus(done=False, reason="no node", blocked=True)
    world.tick(5.0)
    assert (figures(world).rollout, figures(world).rollout_since) == ("blocked", began)
    del world.rollout.slow["support-1"]
    world.settle()
    assert (figures(world).rollout, figures(world).rollout_since) == ("settled", None)


def test_labels_that_no_event_tells_of_are_counted(world: ControllerWorld) -> None:
    world.settle()
    world.label_studio.label_many(2)
    world.settle()
    world.tick(40.0)
    assert counted(scrape(world.board, world.now), "project_unannounced_changes_total") == 1


def test_what_a_run_waits_for_is_told_as_a_word(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.event()
    world.settle(1)
    world.launcher.report_waiting("1-1", "no node has a free nvidia.com/gpu")
    world.tick(1.0)
    assert figures(world).pending == "other"  # a launcher that says no more


def test_a_project_that_cannot_ask_for_its_turn_waits_for_none() -> None:
    world = ControllerWorld(build_settings(max_active_runs=1))
    for number in (1, 2):
        world.connect(number)
        world.label_studio.label_many(6, number)
    world.settle(2)
    waits = next(view for view in world.board.views.values() if not view.active)
    assert waits.figures.pending == "turn"
    world.label_studio.down = LabelStudioUnreachable("it is away")
    world.settle(2)
    assert world.board.views[waits.project.id].figures.pending == ""
    for number in (1, 2):
        metrics.forget_project(number)


def test_agreement_is_read_where_labels_changed(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    world.settle()
    assert figures(world).agreement == Agreement(0, 0)


def test_only_who_leads_tells_and_a_new_leader_counts_on(world: ControllerWorld) -> None:
    world.label_studio.label_many(6)
    first, second = SimulatedReplica(world, leads=True), SimulatedReplica(world)
    for _ in range(4):
        world.now += 20.0
        first.tick()
        second.tick()
    assert counted(scrape(first.board, world.now), "run_info", run="1-1") == 1
    assert "fitloop_run_info" not in scrape(second.board, world.now)
    first.leadership.is_leader, second.leadership.is_leader = False, True
    for _ in range(2):
        world.now += 2.0
        first.tick()
        second.tick()
    assert "fitloop_run_info" not in scrape(first.board, world.now)
    assert counted(scrape(second.board, world.now), "run_info", run="1-1") == 1


def test_a_new_leader_exports_the_last_known_labels(
    world: ControllerWorld,
) -> None:
    world.label_studio.label_many(4)
    pair = (SimulatedReplica(world, leads=True), SimulatedReplica(world))
    for _ in range(3):
        world.now += 20.0
        for replica in pair:
            replica.tick()
    before = scrape(pair[0].board, world.now)
    assert counted(before, "project_labels_waiting") == 4
    world.label_studio.down = LabelStudioUnreachable("it is away")
    pair[0].leadership.is_leader, pair[1].leadership.is_leader = False, True
    for _ in range(2):
        world.now += 20.0
        for replica in pair:
            replica.tick()
    after = scrape(pair[1].board, world.now)
    for name in ("labels_waiting", "labelled_tasks", "checked_timestamp_seconds"):
        assert counted(after, f"project_{name}") == counted(before, f"project_{name}"), name
    oldest = "project_oldest_waiting_label_timestamp_seconds"
    assert counted(after, oldest) == counted(before, oldest) is not None


def test_a_failing_project_keeps_its_last_poll_time(world: ControllerWorld) -> None:
    world.label_studio.label_many(4)
    world.settle()
    checked = counted(scrape(world.board, world.now), "project_checked_timestamp_seconds")
    world.label_studio.down = LabelStudioUnreachable("it is away")
    world.leader_store.error = StoreError("The disk is full.")
    world.leader_store.fail_at = world.leader_store.changes + 1
    world.command(Action.PAUSE)
    world.settle()
    assert counted(scrape(world.board, world.now), "project_checked_timestamp_seconds") == checked


def test_removed_project_keeps_its_name_on_followers(world: ControllerWorld) -> None:
    leader_metrics, follower = SimulatedReplica(world, leads=True), SimulatedReplica(world)
    for replica in (leader_metrics, follower):
        replica.tick()
    metrics.observe_scores(1, [0.5])
    page = replace(documents.load(BoardDocument, world.store.read(BOARD_KEY), BOARD_KEY), views=())
    world.store.write(BOARD_KEY, documents.dump(page))
    assert follower.board.views
    world.now += BOARD_SECONDS
    follower.tick()
    assert not follower.board.views
    assert "1" not in {sample.labels.get("project") for sample in scores()}


def scores() -> list[Sample]:
    return [sample for metric in metrics._scores.collect() for sample in metric.samples]
