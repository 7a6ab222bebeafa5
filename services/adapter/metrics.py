"""What the routes count, for Prometheus. Every label value that can occur exists from the start, at 0."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

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


ROUTES: Final = (
    "/",
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
_refused = Counter("fitloop_refused_requests", "Requests without the right credentials.", ["route"])
_responses = Counter("fitloop_responses", "Answers by route and class of status.", ["route", "status"])
_engines = Gauge(
    "fitloop_served_engine", "1 for the engine that computes what a project serves.", ["project", "engine"]
)
_engine_of: dict[int, str] = {}
_hints = Counter("fitloop_hints", "What was passed on to the adapter that leads.", ["outcome"])
_leads = Gauge("fitloop_leads", "1 while this adapter leads, which one of them does at a time.")
_seconds = Histogram(
    "fitloop_request_seconds",
    "Seconds from a request's head to its answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30, 100),
)

for _action in (*ACTIONS, "other"):
    for _event_outcome in EventOutcome:
        _events.labels(_action, _event_outcome)
for _outcome in PredictionOutcome:
    _predictions.labels(_outcome)
for _route in ROUTES:
    _seconds.labels(_route)
    for _status in ("2xx", "4xx", "5xx"):
        _responses.labels(_route, _status)
for _hint_outcome in ("stored", "lost"):
    _hints.labels(_hint_outcome)
for _where in ("webhook", "other"):
    _refused.labels(_where)


def event(action: object, outcome: EventOutcome) -> None:
    """Count one request to /webhook."""
    _events.labels(action if action in ACTIONS else "other", outcome).inc()


def predictions(outcome: PredictionOutcome, tasks: int = 1) -> None:
    """Count tasks of a /predict."""
    _predictions.labels(outcome).inc(tasks)


def serves(project_id: int, engine: str | None) -> None:
    """Say which engine computes what the project serves; None: it serves nothing."""
    before = _engine_of.pop(project_id, None)
    if before:
        _engines.remove(str(project_id), before)
    if engine:
        _engine_of[project_id] = engine
        _engines.labels(str(project_id), engine).set(1)


def hint(*, stored: bool) -> None:
    """Count a hint; one that is lost is mended by the next look at Label Studio."""
    _hints.labels("stored" if stored else "lost").inc()


def leads(*, now: bool) -> None:
    """Say whether this process leads."""
    _leads.set(now)


def refused(route: str) -> None:
    """Count a 401."""
    _refused.labels(route).inc()


def answered(route: str, status: int, seconds: float) -> None:
    """Count an answer."""
    _responses.labels(route, f"{status // 100}xx").inc()
    _seconds.labels(route).observe(seconds)
