"""Prometheus metrics of the predictor. Every possible label value exists from the start, at 0.

`fitloop local`, which scores by itself, exports the same metrics. The loaded versions are read at each scrape; there are
never more of them than FITLOOP_LOADED_MODELS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Final

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from services.core.errors import (
    BadRequest,
    CorruptVersion,
    EngineError,
    FitloopError,
    NotFound,
    Overloaded,
)

OUTCOMES: Final = ("answered", "bad_request", "unknown", "refused", "overloaded", "failed")
_OUTCOME_OF: Final[tuple[tuple[type[FitloopError], str], ...]] = (
    (BadRequest, "bad_request"),
    (Overloaded, "overloaded"),
    (NotFound, "unknown"),
    (CorruptVersion, "refused"),
    (EngineError, "refused"),
)
VersionKeys = Iterable[tuple[str, str]]
"""Of versions: project key and version."""
_requests = Counter("fitloop_predictor_requests", "Scoring requests, by outcome.", ["outcome"])
_seconds = Histogram(
    "fitloop_predictor_request_seconds",
    "Time from the head of a scoring request to its answer, in seconds.",
    buckets=(0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30, 100),
)
_loads = Counter("fitloop_predictor_loads", "Loads of versions ahead of requests, by outcome.", ["outcome"])
_load_seconds = Histogram(
    "fitloop_predictor_load_seconds",
    "Time to load and warm up a version, in seconds.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 180, 600),
)

for _outcome in OUTCOMES:
    _requests.labels(_outcome)
for _outcome in ("loaded", "refused", "failed"):
    _loads.labels(_outcome)


def outcome_of(error: FitloopError) -> str:
    """Return the outcome of a request that ended with the error."""
    return next((outcome for kind, outcome in _OUTCOME_OF if isinstance(error, kind)), "failed")


def is_refusal(error: FitloopError) -> bool:
    """Return whether the error means that the version is bad, and not that something is unavailable for now."""
    return outcome_of(error) in {"unknown", "refused"}


def count_request(outcome: str, seconds: float) -> None:
    _requests.labels(outcome).inc()
    _seconds.observe(seconds)


def observe_request(error: BaseException | None, seconds: float) -> None:
    """Count a request by the error that it ended with; None for an answer."""
    outcome = outcome_of(error) if isinstance(error, FitloopError) else "failed"
    count_request("answered" if error is None else outcome, seconds)


def count_load(outcome: str, seconds: float | None = None) -> None:
    _loads.labels(outcome).inc()
    if seconds is not None:
        _load_seconds.observe(seconds)


def export_versions(loaded: Callable[[], VersionKeys], refused: Callable[[], Sized]) -> None:
    """Export the loaded versions and the number of refused ones, read at each scrape."""
    _versions.loaded, _versions.refused = loaded, refused


class _Versions(Collector):
    """Exports the versions of this process."""

    def __init__(self) -> None:
        self.loaded: Callable[[], VersionKeys] = tuple
        self.refused: Callable[[], Sized] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield both families each time, even if they are empty."""
        loaded = tuple(self.loaded())
        states = GaugeMetricFamily(
            "fitloop_predictor_versions",
            "Versions in this process: loaded (held) or refused.",
            labels=["state"],
        )
        states.add_metric(["held"], len(loaded))
        states.add_metric(["refused"], len(self.refused()))
        info = GaugeMetricFamily(
            "fitloop_predictor_version_info",
            "1 for each loaded version.",
            labels=["project", "version"],
        )
        for project, version in sorted({(key.partition("-")[0], version) for key, version in loaded}):
            info.add_metric([project, version], 1)
        yield from (states, info)


_versions = _Versions()
REGISTRY.register(_versions)
