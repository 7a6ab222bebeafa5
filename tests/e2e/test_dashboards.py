"""Every panel shows data in a Prometheus that scraped real processes; panels that need a GPU or many days query recorded samples.

test_cluster.py does the same with the pods of a release.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.chart.dashboards import Query
from tests.chart.rendering import template
from tests.e2e.conftest import Connect, LocalFitloop
from tests.e2e.panels import (
    NEEDS_CLUSTER,
    NEEDS_LONG_RUN,
    RECORDED,
    DashboardContext,
    check,
    problem,
    queries,
)
from tests.e2e.prometheus import Monitor, Prometheus, monitors, scrape, stored, write_targets
from tests.e2e.targets import MONITORING
from tests.support.waiting import eventually

SAMPLES = Path(__file__).with_name("recorded.prom")
BEGAN, ENDED = 1795000000.0, 1795000115.0
"""Time range of the samples."""


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus with the recorded samples."""
    folder = tmp_path_factory.mktemp("recorded")
    stored(SAMPLES, folder)
    with Prometheus(folder, []) as prometheus:
        yield prometheus


SHOWN = DashboardContext("shop", "12", BEGAN)


def test_other_panels_show_recorded_samples(recorded: Prometheus) -> None:
    asked = [query for query in queries() if query.panel in RECORDED]
    assert {query.panel for query in asked} == RECORDED
    assert [problem(recorded, query, SHOWN, ENDED) for query in asked] == [""] * len(asked)


@pytest.mark.parametrize(
    ("expression", "legend", "expected"),
    [
        ("fitloop_build_info", "{{component}}", ""),
        ("fitloop_build_info{", "", "parse error"),
        ("fitloop_biuld_info", "", "empty"),
        ("fitloop_build_info * NaN", "", "no figure but NaN"),
        ("sum by (component) (fitloop_build_info)", "{{component}} {{pod}}", "its legend names pod"),
        ("fitloop_project_info * on (project) fitloop_build_info", "", "many-to-many"),
    ],
)
def test_an_empty_query_is_reported(
    recorded: Prometheus, expression: str, legend: str, expected: str
) -> None:
    for instant in (True, False):
        found = problem(recorded, Query("a: panel", expression, legend, instant), SHOWN, ENDED)
        assert expected in found
        assert bool(expected) == bool(found)


def test_unsupported_monitor_fields_are_refused() -> None:
    for one in template(MONITORING).objects:
        if one["kind"] == "PodMonitor":
            one["spec"]["podMetricsEndpoints"][0]["scheme"] = "https"
            with pytest.raises(AssertionError, match="teach"):
                Monitor.of(one)


def test_panel_groups_exist_and_do_not_overlap() -> None:
    assert not NEEDS_CLUSTER & NEEDS_LONG_RUN
    assert not RECORDED & (NEEDS_CLUSTER | NEEDS_LONG_RUN)
    assert {query.panel for query in queries()} >= RECORDED | NEEDS_CLUSTER | NEEDS_LONG_RUN


@pytest.mark.labelstudio
def test_every_panel_shows_data_of_fitloop_local(
    start_fitloop: Callable[..., LocalFitloop], connect: Connect, tmp_path: Path
) -> None:
    """Label, train, keep suggestions, fine-tune, and queue a run of another project."""
    began = time.time()
    # Exactly one run of 25 labels: no other version takes the first one's place while its suggestions are stored.
    fitloop = start_fitloop(START_TRAINING_EACH_N_UPDATES="25")
    (monitor,) = (one for one in monitors(template(MONITORING).objects) if one.kind == "PodMonitor")
    targets = tmp_path / "targets.json"
    write_targets(targets, [(fitloop.url.removeprefix("http://"), {"namespace": "here", "pod": "local"})])
    with Prometheus(tmp_path / "prometheus", [scrape(monitor, targets, "1s")]) as prometheus:
        labelled = connect(fitloop)
        labelled.label(0, 25)
        first = fitloop.served(labelled.project)
        eventually(lambda: len(labelled.suggestions(first)) >= 40, what="suggestions for the others")
        httpx.post(f"{fitloop.url}/predict", json=_asked(labelled.key, labelled.tasks[60:70]), timeout=60)
        labelled.label(25, 33)
        other = connect(fitloop, 30)
        fitloop.send_command(
            labelled.project, "train", parameters={"method": "finetune", "num_train_epochs": "6"}
        )
        other.label(0, 25)
        eventually(lambda: _runs(fitloop, labelled.project) >= 2, 120, what="the fine-tune is over")
        shown = DashboardContext("here", f"{labelled.project}|{other.project}", began)
        check(prometheus, shown, RECORDED | NEEDS_CLUSTER)
        assert not prometheus.silent()


def _asked(key: str, tasks: list[tuple[int, str]]) -> dict[str, object]:
    """Build the request of "Retrieve predictions"."""
    rows = [{"id": task, "data": {"text": f"Where is my order {task}?"}} for task, _ in tasks]
    return {"project": key.replace("-", "."), "tasks": rows, "params": {"context": None}}


def _runs(fitloop: LocalFitloop, project: int) -> int:
    """Return how many runs have ended."""
    state = fitloop.state(project)
    return 0 if state.get("active") else len(state.get("versions") or [])
