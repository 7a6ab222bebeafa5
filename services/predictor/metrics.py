"""What the predictor counts, for Prometheus. Every label value that can occur exists from the start, at 0.

`fitloop local` counts the same where it answers by itself. Which versions are in memory is read when Prometheus asks; there
are never more of them than FITLOOP_LOADED_MODELS.
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
_requests = Counter("fitloop_predictor_requests", "Requests for scores.", ["outcome"])
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

for _outcome in OUTCOMES:
    _requests.labels(_outcome)
for _outcome in ("loaded", "refused", "failed"):
    _loads.labels(_outcome)


def outcome_of(error: FitloopError) -> str:
    """What a request came to that ended with the error."""
    return next((outcome for kind, outcome in _OUTCOME_OF if isinstance(error, kind)), "failed")


def is_refusal(error: FitloopError) -> bool:
    """Whether the error says that the version is bad, and not that something is away for now."""
    return outcome_of(error) in {"unknown", "refused"}


def count_request(outcome: str, seconds: float) -> None:
    """Count a request."""
    _requests.labels(outcome).inc()
    _seconds.observe(seconds)


def count_load(outcome: str, seconds: float | None = None) -> None:
    """Count a load."""
    _loads.labels(outcome).inc()
    if seconds is not None:
        _load_seconds.observe(seconds)


def export_versions(held: Callable[[], VersionKeys], refused: Callable[[], Sized]) -> None:
    """Have the versions that are in memory, and how many were refused, read whenever somebody looks."""
    _versions.held, _versions.refused = held, refused


class _Versions(Collector):
    """What became of versions here."""

    def __init__(self) -> None:
        self.held: Callable[[], VersionKeys] = tuple
        self.refused: Callable[[], Sized] = tuple

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Both families each time, so that it is known what there can be."""
        held = tuple(self.held())
        states = GaugeMetricFamily(
            "fitloop_predictor_versions", "Versions by what became of them here.", labels=["state"]
        )
        states.add_metric(["held"], len(held))
        states.add_metric(["refused"], len(self.refused()))
        info = GaugeMetricFamily(
            "fitloop_predictor_version_info",
            "1 for each version in memory, warmed.",
            labels=["project", "version"],
        )
        for project, version in sorted({(_project(key), version) for key, version in held}):
            info.add_metric([project, version], 1)
        yield from (states, info)


def _project(key: str) -> str:
    """Label Studio's id of a project."""
    return key.partition("-")[0]


_versions = _Versions()
REGISTRY.register(_versions)
