"""What the predictor counts, for Prometheus. Every label value that can occur exists from the start, at 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

OUTCOMES: Final = ("answered", "bad_request", "unknown", "refused", "overloaded", "failed")
_requests = Counter("fitloop_predictor_requests", "Requests for scores.", ["outcome"])
_texts = Counter("fitloop_predictor_texts", "Texts that were scored.")
_seconds = Histogram(
    "fitloop_predictor_request_seconds",
    "Seconds from a request's head to its answer.",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30, 100),
)
_loads = Counter(
    "fitloop_predictor_loads", "Versions that were to be loaded before they were asked for.", ["outcome"]
)
_load_seconds = Histogram(
    "fitloop_predictor_load_seconds",
    "Seconds from the start of a load to a warmed version.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600),
)
_versions = Gauge("fitloop_predictor_versions", "Versions by what became of them here.", ["state"])
_waiting = Gauge("fitloop_predictor_waiting_texts", "Texts that wait to be computed.")

for _outcome in OUTCOMES:
    _requests.labels(_outcome)
for _outcome in ("loaded", "refused", "failed"):
    _loads.labels(_outcome)
for _state in ("held", "refused"):
    _versions.labels(_state)


def answered(outcome: str, texts: int, seconds: float) -> None:
    """Count a request."""
    _requests.labels(outcome).inc()
    _texts.inc(texts)
    _seconds.observe(seconds)


def loaded(outcome: str, seconds: float | None = None) -> None:
    """Count a load."""
    _loads.labels(outcome).inc()
    if seconds is not None:
        _load_seconds.observe(seconds)


def holds(held: int, refused: int) -> None:
    """Say how many versions are here."""
    _versions.labels("held").set(held)
    _versions.labels("refused").set(refused)


def count_waiting(texts: Callable[[], int]) -> None:
    """Have the texts that wait counted whenever somebody looks."""
    _waiting.set_function(texts)
