"""What every adapter counts, for Prometheus; what the leader counts beside it stands in `leader`.

Every label value that can occur exists from the start, at 0; those of a project from its first day here.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

from services.adapter.metrics import leader, names
from services.adapter.metrics.names import OTHER
from services.core.telemetry.metrics import SECONDS

ACTIONS: Final = (
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
"""Every event name of Label Studio's, singular and plural."""


class EventOutcome(StrEnum):
    """What became of a request to /webhook."""

    NOTED = "noted"
    STORED = "stored"
    NOT_STORED = "not_stored"
    UNKNOWN_ACTION = "unknown_action"
    NO_PROJECT = "no_project"
    MALFORMED = "malformed"


class PredictionOutcome(StrEnum):
    """What became of one task of a /predict."""

    PREDICTED = "predicted"
    NO_MODEL = "no_model"
    NO_TEXT = "no_text"
    STALE_LABEL = "stale_label"
    NOT_FINITE = "not_finite"
    OVERLOADED = "overloaded"
    FAILED = "failed"


class InferenceOutcome(StrEnum):
    """What became of a request for scores."""

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
    "/api/projects/{id}/{action}",
)


_events = Counter("fitloop_webhook_events", "Events that Label Studio sent.", ["action", "outcome"])
_predictions = Counter("fitloop_predictions", "Tasks that /predict was asked for.", ["outcome"])
_scores = Histogram(
    "fitloop_predicted_score",
    "Scores of predictions that were given to Label Studio: the first label's share of the likeliest two.",
    ["project"],
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
)
_refused = Counter("fitloop_refused_requests", "Requests without the right credentials.", ["route"])
_responses = Counter("fitloop_responses", "Answers by route and class of status.", ["route", "status"])
_hints = Counter("fitloop_hints", "What was passed on to the adapter that leads.", ["outcome"])
_leader = Gauge("fitloop_leader", "1 while this adapter leads, which one of them does at a time.")
_seconds = Histogram(
    "fitloop_request_seconds",
    "Seconds from a request's head to its answer.",
    ["route"],
    buckets=SECONDS,
)
_inferences = Counter("fitloop_inference_requests", "Requests for scores to the predictors.", ["outcome"])
_inference_seconds = Histogram(
    "fitloop_inference_seconds",
    "Seconds that a request for scores waited for its answer, tries that failed included.",
    buckets=SECONDS,
)

for _action in (*ACTIONS, OTHER):
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
    _hints.labels(_hint_outcome)
for _where in ("webhook", OTHER):
    _refused.labels(_where)


def event(action: object, outcome: EventOutcome) -> None:
    """Count one request to /webhook."""
    _events.labels(action if action in ACTIONS else OTHER, outcome).inc()


def predictions(outcome: PredictionOutcome, tasks: int = 1) -> None:
    """Count tasks of a /predict."""
    _predictions.labels(outcome).inc(tasks)


def predicted(project_id: int, scores: Iterable[float]) -> None:
    """Count predictions by their scores."""
    counted = _scores.labels(names.projects.of(project_id))
    for score in scores:
        counted.observe(score)


def inference(outcome: InferenceOutcome, seconds: float) -> None:
    """Count a request for scores."""
    _inferences.labels(outcome).inc()
    _inference_seconds.observe(seconds)


def hint(*, stored: bool) -> None:
    """Count a hint; one that is lost is mended by the next look at Label Studio."""
    _hints.labels("stored" if stored else "lost").inc()


def leads(*, now: bool) -> None:
    """Say whether this process leads."""
    _leader.set(now)


def refused(route: str) -> None:
    """Count a 401."""
    _refused.labels(route).inc()


def answered(route: str, status: int, seconds: float) -> None:
    """Count an answer."""
    _responses.labels(route, f"{status // 100}xx").inc()
    _seconds.labels(route).observe(seconds)


def leave(project_id: int) -> None:
    """The project is gone, and so are its series, unless others share its name."""
    name = names.projects.of(project_id)
    names.projects.leave(project_id)
    if name != OTHER:
        leader.forget(name)
        _scores.remove_by_labels({"project": name})
