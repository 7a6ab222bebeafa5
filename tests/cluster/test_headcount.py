"""Ready predictors and requests to the API, as Prometheus is told of them."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from services.cluster.client import ClusterError
from services.cluster.pods import ReadyPredictors
from tests.support.api_server import FakeApiServer, serve_api
from tests.support.metrics import metric_value
from tests.support.waiting import eventually


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as running:
        yield running


def predictor(name: str, *, ready: bool, phase: str = "Running") -> dict[str, object]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"x": "1"}},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def requests(outcome: str) -> float:
    return metric_value("fitloop_kubernetes_requests_total", outcome=outcome)


def test_ready_predictors_are_counted(api: FakeApiServer) -> None:
    ready_predictors = ReadyPredictors(api.kube(), "x=1")
    assert math.isnan(ready_predictors.count())
    api.put("pods", predictor("a", ready=True))
    api.put("pods", predictor("b", ready=False))
    api.put("pods", predictor("c", ready=True, phase="Failed"))
    ready_predictors.start()
    try:
        eventually(lambda: metric_value("fitloop_predictors_ready") == 1)
        api.put("pods", predictor("b", ready=True))
        eventually(lambda: metric_value("fitloop_predictors_ready") == 2)
        api.remove("pods", "a")
        eventually(lambda: metric_value("fitloop_predictors_ready") == 1)
    finally:
        ready_predictors.close()


@pytest.mark.parametrize(
    ("status", "outcome"), [(404, "not_found"), (409, "conflict"), (403, "failed"), (500, "failed")]
)
def test_requests_are_counted_by_outcome(api: FakeApiServer, status: int, outcome: str) -> None:
    before = requests(outcome)
    api.faults.append(("POST", status, {}))
    with pytest.raises(ClusterError):
        api.kube().create("lease", {"metadata": {"name": "a"}})
    assert requests(outcome) == before + 1


def test_requests_count_as_ok_or_unreachable(api: FakeApiServer) -> None:
    ok, away = requests("ok"), requests("unreachable")
    api.kube().create("lease", {"metadata": {"name": "a"}})
    assert requests("ok") == ok + 1
    with serve_api(FakeApiServer()) as other:
        kube = other.kube()
    with pytest.raises(ClusterError):
        kube.get("lease", "a")
    assert requests("unreachable") == away + 1
