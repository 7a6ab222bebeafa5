"""Prometheus metrics of model classes' processes. Every possible label value exists from the start, at 0."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_REASONS: Final = ("control", "type", "value", "no_region", "no_result", "relation", "score", "raised")
_starts = Counter(
    "fitloop_model_worker_starts", "Starts of model classes' processes, by outcome.", ["outcome"]
)
_ends = Counter("fitloop_model_worker_ends", "Processes of model classes that ended, by reason.", ["reason"])
_calls = Counter("fitloop_model_calls", "Calls of `predict` of model classes, by outcome.", ["outcome"])
_seconds = Histogram(
    "fitloop_model_call_seconds",
    "Duration of a call of `predict` of a model class, in seconds.",
    buckets=(0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100),
)
_dropped = Counter(
    "fitloop_model_dropped_results",
    "Results and scores of model classes that do not fit the label config, by reason.",
    ["reason"],
)
_workers = Gauge("fitloop_model_workers", "Processes of model classes.")
_bytes = Gauge("fitloop_model_worker_bytes", "Resident memory of the processes of model classes, in bytes.")

for _outcome in ("started", "failed"):
    _starts.labels(_outcome)
for _reason in ("deadline", "memory", "crash", "evicted"):
    _ends.labels(_reason)
for _outcome in ("answered", "failed"):
    _calls.labels(_outcome)
for _reason in _REASONS:
    _dropped.labels(_reason)


def count_start(*, started: bool) -> None:
    _starts.labels("started" if started else "failed").inc()


def count_end(reason: str) -> None:
    _ends.labels(reason).inc()


def count_call(seconds: float, *, answered: bool) -> None:
    _calls.labels("answered" if answered else "failed").inc()
    _seconds.observe(seconds)


def count_dropped(dropped: Mapping[str, int]) -> None:
    for reason, count in dropped.items():
        _dropped.labels(reason).inc(count)


def export(processes: Callable[[], float], resident: Callable[[], float]) -> None:
    """Export the number of processes and their memory, read at each scrape."""
    _workers.set_function(processes)
    _bytes.set_function(resident)
