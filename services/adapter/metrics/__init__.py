"""Prometheus metrics of every adapter; those of the leader alone are in `leader`.

Every label value that can occur exists from the start, at 0.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from enum import StrEnum
from typing import Final, TypeVar

from prometheus_client import Counter, Gauge, Histogram

from services.adapter.metrics import leader_metrics
from services.adapter.metrics.leader_metrics import OTHER
from services.adapter.ports import Inference
from services.core.errors import Overloaded, PredictorsUnreachable
from services.core.telemetry.metrics import SECONDS
from services.engine.compute import Scores
from services.mlbackend.calls import PredictCall, TaskPredictions

T = TypeVar("T")

EVENT_ACTIONS: Final = (
    "ANNOTATION_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATION_DELETED",
    "ANNOTATIONS_CREATED",
    "ANNOTATIONS_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_UPDATED",
    "TASKS_DELETED",
    "PROJECT_CREATED",
    "PROJECT_UPDATED",
    "PROJECT_DELETED",
    "START_TRAINING",
)
"""All of Label Studio's event names, singular and plural."""


class EventOutcome(StrEnum):
    """Outcome of a request to /webhook."""

    NOTED = "noted"
    STORED = "stored"
    NOT_STORED = "not_stored"
    UNKNOWN_ACTION = "unknown_action"
    NO_PROJECT = "no_project"
    MALFORMED = "malformed"


class PredictionOutcome(StrEnum):
    """Outcome of one task of a /predict."""

    PREDICTED = "predicted"
    NO_MODEL = "no_model"
    NO_TEXT = "no_text"
    NO_SUGGESTION = "no_suggestion"
    STALE_LABEL = "stale_label"
    NOT_FINITE = "not_finite"
    OVERLOADED = "overloaded"
    FAILED = "failed"


class InferenceOutcome(StrEnum):
    """Outcome of an inference request."""

    OK = "ok"
    OVERLOADED = "overloaded"
    UNREACHABLE = "unreachable"
    FAILED = "failed"


ROUTES: Final = (
    "/",
    "/projects/{id}",
    "/projects/{id}/versions/{version}",
    "/projects/{id}/{action}",
    "/health",
    "/setup",
    "/predict",
    "/webhook",
    "/versions",
    "/livez",
    "/readyz",
    "/metrics",
    "/api/predictors",
    "/api/projects",
    "/api/projects/{id}",
    "/api/projects/{id}/versions/{version}/report",
    "/api/projects/{id}/{action}",
    "/api/encoders",
    "/api/gc",
    "/api/gc/{command}",
)

_events = Counter("fitloop_webhook_events", "Events received from Label Studio.", ["action", "outcome"])

_predictions = Counter("fitloop_predictions", "Tasks received by /predict.", ["outcome"])

_scores = Histogram(
    "fitloop_predicted_score",
    "Scores of predictions sent to Label Studio: p1 / (p1 + p2) of the two most likely labels.",
    ["project"],
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
)

_refused = Counter("fitloop_refused_requests", "Requests refused for lack of valid credentials.", ["route"])

_responses = Counter("fitloop_responses", "HTTP responses by route and status class.", ["route", "status"])

_change_notices = Counter("fitloop_hints", "Change notices forwarded to the leader.", ["outcome"])

_leader = Gauge("fitloop_leader", "1 while this adapter is the leader and its ticks succeed.")

_seconds = Histogram(
    "fitloop_request_seconds",
    "HTTP request latency in seconds.",
    ["route"],
    buckets=SECONDS,
)

_inferences = Counter("fitloop_inference_requests", "Inference requests.", ["outcome"])

_inference_seconds = Histogram(
    "fitloop_inference_seconds",
    "Inference latency in seconds, retries included.",
    buckets=SECONDS,
)

for _action in (*EVENT_ACTIONS, OTHER):
    for _event_outcome in EventOutcome:
        _events.labels(_action, _event_outcome)

for _outcome in PredictionOutcome:
    _predictions.labels(_outcome)

for _inference_outcome in InferenceOutcome:
    _inferences.labels(_inference_outcome)

for _route in ROUTES:
    _seconds.labels(_route)
    for _status in ("2xx", "3xx", "4xx", "5xx"):
        _responses.labels(_route, _status)

for _hint_outcome in ("stored", "lost"):
    _change_notices.labels(_hint_outcome)

for _where in ("webhook", OTHER):
    _refused.labels(_where)


def count_event(action: object, outcome: EventOutcome) -> None:
    """Count a request to /webhook."""
    _events.labels(action if action in EVENT_ACTIONS else OTHER, outcome).inc()


def count_predictions(outcome: PredictionOutcome, tasks: int = 1) -> None:
    """Count tasks of a /predict."""
    _predictions.labels(outcome).inc(tasks)


def observe_scores(project_id: int, scores: Iterable[float]) -> None:
    counted = _scores.labels(leader_metrics.project_names.label_of(project_id))
    for score in scores:
        counted.observe(score)


def observe_inference(error: BaseException | None, seconds: float) -> None:
    """Count a request for scores by how it ended."""
    outcome = InferenceOutcome.OK if error is None else InferenceOutcome.FAILED
    if isinstance(error, Overloaded):
        is_unreachable = isinstance(error, PredictorsUnreachable)
        outcome = InferenceOutcome.UNREACHABLE if is_unreachable else InferenceOutcome.OVERLOADED
    _inferences.labels(outcome).inc()
    _inference_seconds.observe(seconds)


def count_change_notices(*, stored: int, lost: int) -> None:
    """Count change notices; the next poll of Label Studio makes up for a lost one."""
    _change_notices.labels("stored").inc(stored)
    _change_notices.labels("lost").inc(lost)


def set_leading(*, now: bool) -> None:
    _leader.set(now)


def count_refused(route: str) -> None:
    _refused.labels(route).inc()


def observe_response(route: str, status: int, seconds: float) -> None:
    _responses.labels(route, f"{status // 100}xx").inc()
    _seconds.labels(route).observe(seconds)


def forget_project(project_id: int) -> None:
    """Remove a project's series, unless other projects share its label."""
    name = leader_metrics.project_names.label_of(project_id)
    leader_metrics.project_names.remove(project_id)
    if name != OTHER:
        leader_metrics.remove_series(name)
        _scores.remove_by_labels({"project": name})


class CountedInference:
    """Passes requests on to another Inference, and reports each one's error, or None, and its seconds to observers."""

    def __init__(self, inner: Inference, *observers: Callable[[BaseException | None, float], None]) -> None:
        self._inner = inner
        self._observers = observers

    async def scores(self, project_key: str, version: str, texts: Sequence[str]) -> Scores:
        """Return one row per text, in order. Raises what the inner one raises."""
        return await self._counted(self._inner.scores(project_key, version, texts))

    async def predict_tasks(self, project_key: str, version: str, call: PredictCall) -> list[TaskPredictions]:
        """Return each task's predictions, in order. Raises what the inner one raises."""
        return await self._counted(self._inner.predict_tasks(project_key, version, call))

    async def _counted(self, answer: Awaitable[T]) -> T:
        started = time.perf_counter()
        try:
            found = await answer
        except BaseException as error:
            self._report(error, time.perf_counter() - started)
            raise
        self._report(None, time.perf_counter() - started)
        return found

    async def ready(self) -> bool:
        """Return whether the inner one can answer."""
        return await self._inner.ready()

    def _report(self, error: BaseException | None, seconds: float) -> None:
        for observe in self._observers:
            observe(error, seconds)
