"""Prometheus metrics of every process: build, requests to the store and to Label Studio, the serving table it read.

Each package's metrics are in its own `metrics` modules. All label values exist from the start, at 0. docs/metrics.md is
generated from these modules.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge, Histogram, disable_created_metrics

from services import __version__
from services.core.errors import LabelStudioError, LabelStudioNotFound, LabelStudioUnreachable, TokenRefused

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30, 100)
"""Upper bounds of the histogram buckets for requests."""


class Component(StrEnum):
    """Which process this is."""

    ADAPTER = "adapter"
    PREDICTOR = "predictor"
    LOCAL = "local"


class StoreOperation(StrEnum):
    """Kinds of requests to a store."""

    READ = "read"
    WRITE = "write"
    DELETE = "delete"
    LIST = "list"


class StoreOutcome(StrEnum):
    """Outcome of a request."""

    OK = "ok"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    FAILED = "failed"


class LabelStudioOperation(StrEnum):
    """Kinds of requests to Label Studio."""

    PROJECT = "project"
    TASKS = "tasks"
    IMPORT_PREDICTIONS = "import_predictions"
    TITLE = "title"
    WEBHOOKS = "webhooks"
    OTHER = "other"


class LabelStudioOutcome(StrEnum):
    """Outcome of a request."""

    OK = "ok"
    UNAUTHORIZED = "unauthorized"
    MISSING = "missing"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


# Without this, each counter has a second series.
disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no types

_build = Gauge(
    "fitloop_build_info", "1, with the release of this process and what it is.", ["version", "component"]
)
_generation = Gauge(
    "fitloop_serving_generation",
    "Generation of the table of what is served (serving.json) that this process read last; 0 before the first.",
)
_store = Counter("fitloop_store_requests", "Requests to the store.", ["operation", "outcome"])
_store_seconds = Histogram(
    "fitloop_store_request_seconds",
    "Seconds that a request to the store took, its retries and the transfer included.",
    ["operation"],
    buckets=SECONDS,
)
_label_studio = Counter(
    "fitloop_label_studio_requests", "Requests to Label Studio's API.", ["operation", "outcome"]
)
_label_studio_seconds = Histogram(
    "fitloop_label_studio_request_seconds",
    "Seconds until Label Studio had answered.",
    ["operation"],
    buckets=SECONDS,
)

_OPERATIONS: Final = {
    "api/projects": LabelStudioOperation.PROJECT,
    "api/tasks": LabelStudioOperation.TASKS,
    "api/ml": LabelStudioOperation.TITLE,
    "api/webhooks": LabelStudioOperation.WEBHOOKS,
}
_OUTCOMES: Final[dict[type[LabelStudioError], LabelStudioOutcome]] = {
    TokenRefused: LabelStudioOutcome.UNAUTHORIZED,
    LabelStudioUnreachable: LabelStudioOutcome.UNREACHABLE,
    LabelStudioNotFound: LabelStudioOutcome.MISSING,
}

for _wanted in StoreOperation:
    _store_seconds.labels(_wanted)
    for _outcome in StoreOutcome:
        _store.labels(_wanted, _outcome)
for _asked in LabelStudioOperation:
    _label_studio_seconds.labels(_asked)
    for _answer in LabelStudioOutcome:
        _label_studio.labels(_asked, _answer)


def set_build_info(component: Component) -> None:
    _build.clear()
    _build.labels(__version__, component).set(1)


def set_generation(generation: int) -> None:
    _generation.set(generation)


def observe_store_request(operation: StoreOperation, outcome: StoreOutcome, seconds: float) -> None:
    _store.labels(operation, outcome).inc()
    _store_seconds.labels(operation).observe(seconds)


@contextmanager
def observe_label_studio_request(path: str) -> Iterator[None]:
    """Count and time the request to Label Studio that the block makes, by outcome."""
    began, operation, outcome = time.perf_counter(), _operation(path), LabelStudioOutcome.OK
    try:
        yield
    except Exception as error:  # counted, and raised again
        outcome = _outcome_of(error)
        raise
    finally:
        _label_studio.labels(operation, outcome).inc()
        _label_studio_seconds.labels(operation).observe(time.perf_counter() - began)


def _operation(path: str) -> LabelStudioOperation:
    if path.endswith("/import/predictions"):
        return LabelStudioOperation.IMPORT_PREDICTIONS
    return _OPERATIONS.get("/".join(path.split("/")[:2]), LabelStudioOperation.OTHER)


def _outcome_of(error: Exception) -> LabelStudioOutcome:
    kinds = _OUTCOMES.items()
    return next((outcome for kind, outcome in kinds if isinstance(error, kind)), LabelStudioOutcome.FAILED)
