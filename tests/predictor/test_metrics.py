"""Known label values exist from the start, and loaded versions are read at each scrape."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from services.core.domain import Served
from services.core.errors import (
    BadRequest,
    CorruptVersion,
    EngineError,
    FitloopError,
    NotFound,
    Overloaded,
    StoreUnreachable,
    UnknownFormat,
)
from services.core.registry import Registry
from services.predictor import metrics
from services.predictor.metrics import OUTCOMES
from tests.predictor.conftest import BuildManager
from tests.support.metrics import metric_growth, metric_value
from tests.support.versions import KEY, corrupt_file, write_serving_table


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """Restore what other tests exported."""
    before = metrics._versions.loaded, metrics._versions.refused
    yield
    metrics.export_versions(*before)


def test_known_label_values_start_at_0_without_heavy_imports() -> None:
    script = (
        "import sys, services.predictor.metrics; from prometheus_client import generate_latest; "
        "assert not {'torch', 'numpy', 'kserve', 'starlette'} & set(sys.modules); print(generate_latest().decode())"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout
    lines = output.splitlines()
    for outcome in OUTCOMES:
        assert f'fitloop_predictor_requests_total{{outcome="{outcome}"}} 0.0' in lines
    for outcome in ("loaded", "refused", "failed"):
        assert f'fitloop_predictor_loads_total{{outcome="{outcome}"}} 0.0' in lines
    for state in ("held", "refused"):
        assert f'fitloop_predictor_versions{{state="{state}"}} 0.0' in lines
    assert "# TYPE fitloop_predictor_version_info gauge" in lines
    assert "fitloop_predictor_version_info{" not in output


@pytest.mark.parametrize(
    ("error", "outcome", "is_refusal"),
    [
        (BadRequest("x"), "bad_request", False),
        (Overloaded("x"), "overloaded", False),
        (NotFound("x"), "unknown", True),
        (CorruptVersion("x"), "refused", True),
        (EngineError("x"), "refused", True),
        (UnknownFormat("x"), "failed", False),
        (StoreUnreachable("x"), "failed", False),
        (FitloopError("x"), "failed", False),
    ],
)
def test_outcome_of_each_error(error: FitloopError, outcome: str, is_refusal: bool) -> None:
    assert metrics.outcome_of(error) == outcome
    assert outcome in OUTCOMES
    assert metrics.is_refusal(error) is is_refusal


def test_requests_and_loads_are_timed() -> None:
    names = ("request_seconds_sum", "load_seconds_sum", "load_seconds_count")
    grown = [metric_growth(f"fitloop_predictor_{name}") for name in names]
    refused = metric_growth("fitloop_predictor_loads_total", outcome="refused")
    metrics.count_request("answered", 0.5)
    metrics.count_load("loaded", 2.0)
    metrics.count_load("refused")
    assert [found() for found in grown] == [0.5, 2.0, 1]
    assert refused() == 1


def test_loaded_versions_are_labelled_by_project_id() -> None:
    names = [("6-1", "w-1"), ("5-1", "v-1"), ("5-1", "v-2"), ("5-9", "v-1")]
    metrics.export_versions(lambda: names, lambda: ("one",))
    for project, version in (("5", "v-1"), ("5", "v-2"), ("6", "w-1")):
        assert metric_value("fitloop_predictor_version_info", project=project, version=version) == 1
    assert metric_value("fitloop_predictor_versions", state="held") == 4
    assert metric_value("fitloop_predictor_versions", state="refused") == 1
    samples = [sample for family in REGISTRY.collect() for sample in family.samples]
    infos = [sample.labels for sample in samples if sample.name == "fitloop_predictor_version_info"]
    assert len(infos) == 3, "a project recreated under its id adds no second series of the same name"
    names.clear()
    labels = {"project": "6", "version": "w-1"}
    assert REGISTRY.get_sample_value("fitloop_predictor_version_info", labels) is None


def test_loaded_and_refused_versions_are_exported(registry: Registry, build_manager: BuildManager) -> None:
    manager = build_manager()
    metrics.export_versions(manager.inference.loaded, manager.refusals)
    corrupt_file(registry, "v-2")
    write_serving_table(registry, {KEY: Served("v-1", target="v-2")})
    manager.read_table()
    manager.load_missing()
    assert metric_value("fitloop_predictor_version_info", project="5", version="v-1") == 1
    assert metric_value("fitloop_predictor_versions", state="held") == 1
    assert metric_value("fitloop_predictor_versions", state="refused") == 1
