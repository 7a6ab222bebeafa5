"""Prometheus metrics of the engine, one for each stage of a request. Known label values exist from the start, at 0.

They are counted once per batch or request, never per text. The state of an engine (queue, loaded versions) is read at each
scrape. Imports nothing that computes: neither torch nor the rest of the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from prometheus_client import REGISTRY, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

KINDS: Final = ("ct2-int8", "ct2-fp32", "ort-int8", "torch-fp32", "torch-bf16", "torch-fp16")
Lookup = Literal["hit", "load", "refused"]
Rejection = Literal["queue_full", "memory"]
LoadOutcome = Literal["loaded", "refused", "failed", "no_memory", "dropped"]

_texts = Counter("fitloop_engine_texts", "Texts whose features were computed.")
_tokens = Counter("fitloop_engine_tokens", "Tokens computed, without padding.")
_padding = Counter(
    "fitloop_engine_padding_tokens",
    "Padding tokens computed to fill up the shorter texts of a batch.",
)
_tokenise_seconds = Histogram(
    "fitloop_engine_tokenise_seconds",
    "Time to tokenise a request's texts, in seconds.",
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
_queue_seconds = Histogram(
    "fitloop_engine_queue_seconds",
    "Time that an answered request spent in the queue until its first batch, in seconds; a few short texts are tokenised in that time.",
    buckets=(0.0001, 0.00025, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30, 100),
)
_inference_seconds = Histogram(
    "fitloop_engine_inference_seconds",
    "Time to compute a batch, in seconds.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 3, 10, 30),
)
_batch_texts = Histogram(
    "fitloop_engine_batch_texts", "Texts per batch.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256)
)
_lookups = Counter(
    "fitloop_engine_version_requests",
    "Requests by the state of their version: in memory (hit), loaded first (load), or refused.",
    ["outcome"],
)
_rejections = Counter(
    "fitloop_engine_rejected",
    "Requests rejected with the advice to retry: the queue was full, or the version found no memory.",
    ["reason"],
)
_loads = Counter(
    "fitloop_engine_encoder_loads",
    "Loads of encoders, by outcome: loaded, refused (damaged or missing), failed (store), no_memory (all in use), or dropped "
    "before they began, because no request waited any longer.",
    ["outcome"],
)
_recent = Counter(
    "fitloop_engine_recent_texts",
    "Texts of small requests, by whether their features were computed within the last five minutes (hit) or not (miss).",
    ["outcome"],
)
_evictions = Counter("fitloop_engine_evictions", "Encoders removed from memory to make room for others.")
# Children are looked up once: a lookup costs as much as the count itself.
_lookup_counters = {outcome: _lookups.labels(outcome) for outcome in ("hit", "load", "refused")}
_rejection_counters = {reason: _rejections.labels(reason) for reason in ("queue_full", "memory")}
_recent_counters = {outcome: _recent.labels(outcome) for outcome in ("hit", "miss")}
_load_counters = {
    outcome: _loads.labels(outcome) for outcome in ("loaded", "refused", "failed", "no_memory", "dropped")
}


@dataclass(frozen=True, slots=True)
class EngineState:
    """The state of an engine at the moment of a scrape."""

    waiting_texts: int
    queue_limit_texts: int
    kinds: tuple[str, ...]
    """The engine of each version in memory."""
    loaded_bytes: int
    """Of encoders and heads."""
    encoders: int = 0
    """Encoders in memory."""
    heads: int = 0
    """Versions whose head is in memory."""
    budget_bytes: float = 0.0
    """For encoders."""
    encoder_limit: int = 0
    """Most encoders in memory; 0: the budget alone decides."""
    active_encoders: int = 0
    """Encoders that were asked for lately, in memory or not."""
    active_bytes: int = 0
    gpu_memory_bytes: int | None = None
    """None without a GPU."""


class EngineSource(Protocol):
    """An engine whose state is exported."""

    def state(self) -> EngineState:
        """Return the current state. Must be cheap and must not raise."""
        ...


def observe_tokenising(seconds: float) -> None:
    """Record how long a request's texts took to tokenise."""
    _tokenise_seconds.observe(seconds)


def observe_queueing(seconds: float) -> None:
    """Record how long an answered request was queued."""
    _queue_seconds.observe(seconds)


def observe_batch(lengths: Sequence[int], seconds: float) -> None:
    """Count a batch, given the tokens of each of its texts."""
    texts, tokens = len(lengths), sum(lengths)
    _inference_seconds.observe(seconds)
    _batch_texts.observe(texts)
    _texts.inc(texts)
    _tokens.inc(tokens)
    _padding.inc(max(lengths) * texts - tokens)


def count_lookup(outcome: Lookup) -> None:
    """Count a request by the state of its version."""
    _lookup_counters[outcome].inc()


def count_rejection(reason: Rejection) -> None:
    """Count a request that the client should retry."""
    _rejection_counters[reason].inc()


def count_encoder_load(outcome: LoadOutcome) -> None:
    """Count a load of an encoder."""
    _load_counters[outcome].inc()


def count_recent(hits: int, misses: int) -> None:
    """Count texts by whether their features were kept."""
    _recent_counters["hit"].inc(hits)
    _recent_counters["miss"].inc(misses)


def count_evictions(encoders: int) -> None:
    """Count encoders that made room for another."""
    _evictions.inc(encoders)


def register(engine: EngineSource) -> None:
    """Export the engine's state until `unregister`; several engines are summed."""
    _state.engines.add(engine)


def unregister(engine: EngineSource) -> None:
    """Stop exporting the engine's state."""
    _state.engines.discard(engine)


_GAUGES: Final[tuple[tuple[str, str, Callable[[EngineState], float]], ...]] = (
    ("fitloop_engine_waiting_texts", "Texts in the queue.", lambda now: now.waiting_texts),
    (
        "fitloop_engine_queue_limit_texts",
        "Most texts the queue accepts; requests beyond are rejected.",
        lambda now: now.queue_limit_texts,
    ),
    (
        "fitloop_engine_held_bytes",
        "Memory of the loaded encoders and heads, estimated from their files.",
        lambda now: now.loaded_bytes,
    ),
    (
        "fitloop_engine_budget_bytes",
        "Most bytes of loaded encoders (FITLOOP_MODEL_MEMORY_MB, or 60 % of the memory limit).",
        lambda now: now.budget_bytes,
    ),
    (
        "fitloop_engine_encoders",
        "Loaded encoders; a version that is a whole model counts as one.",
        lambda now: now.encoders,
    ),
    (
        "fitloop_engine_encoder_limit",
        "Most loaded encoders (FITLOOP_LOADED_MODELS); 0 means that the budget alone decides.",
        lambda now: now.encoder_limit,
    ),
    ("fitloop_engine_heads", "Versions whose head is in memory.", lambda now: now.heads),
    (
        "fitloop_engine_active_encoders",
        "Encoders requested within the last five minutes, in memory or not.",
        lambda now: now.active_encoders,
    ),
    (
        "fitloop_engine_active_bytes",
        "Size of the encoders requested within the last five minutes, in memory or not.",
        lambda now: now.active_bytes,
    ),
)


class _State(Collector):
    """Reads the engines of this process at each scrape."""

    def __init__(self) -> None:
        self.engines: set[EngineSource] = set()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Yield every family each time, even if it is empty."""
        found = [engine.state() for engine in tuple(self.engines)]
        yield _versions([kind for now in found for kind in now.kinds])
        for name, text, value in _GAUGES:
            yield GaugeMetricFamily(name, text, sum(value(now) for now in found))
        yield _gpu_memory([now.gpu_memory_bytes for now in found if now.gpu_memory_bytes is not None])


def _versions(kinds: Sequence[str]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "fitloop_engine_versions", "Loaded versions, by the engine that computes them.", labels=["engine"]
    )
    for kind in dict.fromkeys((*KINDS, *kinds)):
        family.add_metric([kind], kinds.count(kind))
    return family


def _gpu_memory(sizes: Sequence[int]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "fitloop_engine_gpu_memory_bytes",
        "GPU memory reserved by this process for weights and batches; absent on CPUs.",
    )
    if sizes:
        family.add_metric([], sum(sizes))
    return family


_state = _State()
REGISTRY.register(_state)
