"""Inference of this process for tests."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from services.core.registry import Registry
from services.core.settings import ServingSettings
from services.engine.loading import EncoderKey
from services.mlbackend.model_class import WorkerSettings
from services.mlbackend.workers import ClassWorkers
from services.predictor.inference import VersionInference


def local_inference(
    registry: Registry,
    serving: ServingSettings,
    guard: Callable[[EncoderKey, int], AbstractContextManager[None]] = lambda *_: nullcontext(),
    classes: WorkerSettings | None = None,
    limit: int = 4,
) -> VersionInference:
    """Return inference of all kinds of versions, with at most `limit` processes of classes."""
    workers = ClassWorkers(registry, classes or WorkerSettings(), limit)
    return VersionInference(registry, serving, workers, guard)
