"""What the engine counts, for Prometheus: a metric for each stage of a request. Known label values exist from the start, at 0.

Counted once a batch or a request, and never once a text. What an engine knows of itself anyway (what waits, what is held)
is read when Prometheus asks for it. Imports nothing that computes: neither torch nor the rest of the engine.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

KINDS: Final = ("ct2-int8", "torch-fp32", "torch-bf16")
Lookup = Literal["hit", "load", "refused"]
Rejection = Literal["queue_full", "memory"]

_texts = Counter("fitloop_engine_texts", "Texts that were computed.")
_tokens = Counter("fitloop_engine_tokens", "Tokens of the texts that were computed, padding not counted.")
_padding = Counter(
    "fitloop_engine_padding_tokens",
    "Tokens that filled up the shorter texts of a batch, computed for nothing.",
)
_tokenise_seconds = Histogram(
    "fitloop_engine_tokenise_seconds",
    "Seconds in which a request's texts became tokens.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
_queue_seconds = Histogram(
    "fitloop_engine_queue_seconds",
    "Seconds that an answered request had waited, tokenised, until the first of its texts was computed.",
    buckets=(0.0001, 0.00025, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30, 100),
)
_inference_seconds = Histogram(
    "fitloop_engine_inference_seconds",
    "Seconds in which a batch was computed.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30),
)
_batch_texts = Histogram(
    "fitloop_engine_batch_texts", "Texts of a batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
_lookups = Counter(
    "fitloop_engine_version_requests",
    "Requests by what they found of their version: in memory, to be loaded first, or refused.",
    ["outcome"],
)
_rejections = Counter(
    "fitloop_engine_rejected",
    "Requests that were told to come again: too many texts waited, or the version found no memory.",
    ["reason"],
)
# Children are looked up once, because a lookup costs as much as the count itself.
_lookup_counters = {outcome: _lookups.labels(outcome) for outcome in ("hit", "load", "refused")}
_rejection_counters = {reason: _rejections.labels(reason) for reason in ("queue_full", "memory")}


@dataclass(frozen=True, slots=True)
class EngineState:
    """What an engine says of itself."""

    waiting_texts: int
    queue_limit_texts: int
    kinds: tuple[str, ...]
    """The engine of each version in memory."""
    loaded_bytes: int
    gpu_memory_bytes: int | None = None
    """None where nothing is computed on a GPU."""


class EngineSource(Protocol):
    """An engine whose state is exported. `now` must be cheap, and must not raise."""

    def state(self) -> EngineState:
        """As things stand."""
        ...


def observe_tokenising(seconds: float) -> None:
    """Count a request whose texts are tokens now."""
    _tokenise_seconds.observe(seconds)


def observe_queueing(seconds: float) -> None:
    """Count an answered request by how long it had waited."""
    _queue_seconds.observe(seconds)


def observe_batch(lengths: Sequence[int], seconds: float) -> None:
    """Count a batch by the tokens of each of its texts."""
    texts, tokens = len(lengths), sum(lengths)
    _inference_seconds.observe(seconds)
    _batch_texts.observe(texts)
    _texts.inc(texts)
    _tokens.inc(tokens)
    _padding.inc(max(lengths) * texts - tokens)


def count_lookup(outcome: Lookup) -> None:
    """Count a request by what it found of its version."""
    _lookup_counters[outcome].inc()


def count_rejection(reason: Rejection) -> None:
    """Count a request that is to come again."""
    _rejection_counters[reason].inc()


def register(engine: EngineSource) -> None:
    """Export the engine's state until it is forgotten; several are summed up."""
    _state.engines.add(engine)


def unregister(engine: EngineSource) -> None:
    """The engine is closed."""
    _state.engines.discard(engine)


class _State(Collector):
    """Reads the engines of this process whenever somebody looks."""

    def __init__(self) -> None:
        self.engines: set[EngineSource] = set()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Every family each time, so that it is known what there can be."""
        found = [engine.state() for engine in tuple(self.engines)]
        yield GaugeMetricFamily(
            "fitloop_engine_waiting_texts",
            "Texts that wait to be computed.",
            sum(now.waiting_texts for now in found),
        )
        yield GaugeMetricFamily(
            "fitloop_engine_queue_limit_texts",
            "Texts that may wait; what comes beyond is rejected.",
            sum(now.queue_limit_texts for now in found),
        )
        yield _versions([kind for now in found for kind in now.kinds])
        yield GaugeMetricFamily(
            "fitloop_engine_held_bytes",
            "Size of the files from which the versions in memory were loaded.",
            sum(now.loaded_bytes for now in found),
        )
        yield _gpu_memory([now.gpu_memory_bytes for now in found if now.gpu_memory_bytes is not None])


def _versions(kinds: Sequence[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "fitloop_engine_versions", "Versions in memory, by the engine that computes them.", labels=["engine"]
    )
    for kind in dict.fromkeys((*KINDS, *kinds)):
        family.add_metric([kind], kinds.count(kind))
    return family


def _gpu_memory(sizes: Sequence[int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "fitloop_engine_gpu_memory_bytes",
        "GPU memory that this process keeps for weights and batches, what it would reuse counted; absent on CPUs.",
    )
    if sizes:
        family.add_metric([], sum(sizes))
    return family


_state = _State()
REGISTRY.register(_state)
