"""What is counted of Kubernetes, for Prometheus. Every label value that can occur exists from the start, at 0."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge


class RequestOutcome(StrEnum):
    """What became of a request to the Kubernetes API."""

    OK = "ok"
    CONFLICT = "conflict"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


_requests = Counter(
    "fitloop_kubernetes_requests",
    "Requests to the Kubernetes API, each with the tries that it took; a watch counts once it is answered.",
    ["outcome"],
)
_ready = Gauge(
    "fitloop_predictors_ready", "Predictors that are ready, as Kubernetes last told; NaN before it has."
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
    """Count a request by HTTP's status; 0: nobody answered."""
    _requests.labels(_OUTCOMES.get(status, RequestOutcome.FAILED)).inc()


def export_ready_predictors(predictors: Callable[[], float]) -> None:
    """Have the ready predictors counted whenever somebody looks."""
    _ready.set_function(predictors)
