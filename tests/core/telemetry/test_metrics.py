"""What every process counts: requests to Label Studio by how they end, its build, the table it read."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY

from services import __version__
from services.core.errors import LabelStudioError, LabelStudioNotFound, LabelStudioUnreachable, TokenRefused
from services.core.registry import Registry
from services.core.serving_table import ServingTableFile, ServingTableReader
from services.core.telemetry import metrics
from services.core.telemetry.metrics import Component, observe_label_studio_request
from tests.support.metrics import metric_value
from tests.support.store import MemoryStore


def asked(operation: str, outcome: str) -> float:
    return metric_value("fitloop_label_studio_requests_total", operation=operation, outcome=outcome)


@pytest.mark.parametrize(
    ("path", "operation"),
    [
        ("api/projects/5/", "project"),
        ("api/projects/5/import/predictions", "import_predictions"),
        ("api/tasks/", "tasks"),
        ("api/ml/", "title"),
        ("api/ml/7", "title"),
        ("api/webhooks/", "webhooks"),
        ("api/version", "other"),
        ("", "other"),
    ],
)
def test_a_request_is_counted_by_its_operation(path: str, operation: str) -> None:
    before = asked(operation, "ok")
    seconds = metric_value("fitloop_label_studio_request_seconds_count", operation=operation)
    with observe_label_studio_request(path):
        pass
    assert asked(operation, "ok") == before + 1
    assert metric_value("fitloop_label_studio_request_seconds_count", operation=operation) == seconds + 1


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TokenRefused, "unauthorized"),
        (LabelStudioUnreachable, "unreachable"),
        (LabelStudioNotFound, "missing"),
        (LabelStudioError, "failed"),
        (RuntimeError, "failed"),
    ],
)
def test_a_request_is_counted_by_its_error(error: type[Exception], outcome: str) -> None:
    before = asked("tasks", outcome)
    with pytest.raises(error), observe_label_studio_request("api/tasks/"):
        raise error("so it is")
    assert asked("tasks", outcome) == before + 1


def test_a_process_says_what_it_is_once() -> None:
    metrics.set_build_info(Component.ADAPTER)
    metrics.set_build_info(Component.PREDICTOR)
    assert metric_value("fitloop_build_info", version=__version__, component="predictor") == 1
    assert (
        REGISTRY.get_sample_value("fitloop_build_info", {"version": __version__, "component": "adapter"})
        is None
    )


def test_reading_the_table_sets_the_generation_metric() -> None:
    store = MemoryStore()
    table = Registry(store).serving()
    ServingTableFile(store).write(type(table)(term=1, generation=41))
    ServingTableReader(store).read()
    assert metric_value("fitloop_serving_generation") == 41
