"""Prometheus metrics of the Kubernetes client. Every possible label value exists from the start, at 0."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge


class RequestOutcome(StrEnum):
    """How a request to the Kubernetes API ended."""

    OK = "ok"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


_requests = Counter(
    "fitloop_kubernetes_requests",
    "Requests to the Kubernetes API; retries are not counted, and a watch counts when it is accepted.",
    ["outcome"],
)
_ready = Gauge(
    "fitloop_predictors_ready",
    "Number of ready predictors as last seen by the watch; NaN before the first list.",
)
_OUTCOMES: Final = {
    0: RequestOutcome.UNREACHABLE,
    200: RequestOutcome.OK,
    404: RequestOutcome.NOT_FOUND,
    409: RequestOutcome.CONFLICT,
}

for _outcome in RequestOutcome:
    _requests.labels(_outcome)


def count_request(status: int) -> None:
    """Count a request by its HTTP status; 0 if there was no answer."""
    _requests.labels(_OUTCOMES.get(status, RequestOutcome.FAILED)).inc()


def export_ready_predictors(predictors: Callable[[], float]) -> None:
    """Export the number of ready predictors, read at each scrape."""
    _ready.set_function(predictors)
