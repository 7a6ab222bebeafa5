"""Metrics of this process: tests compare before and after."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import REGISTRY


def metric_value(name: str, **labels: str) -> float:
    """Return a sample's value; it must exist."""
    found = REGISTRY.get_sample_value(name, labels)
    assert found is not None, f"{name}{labels} does not exist"
    return found


def metric_growth(name: str, **labels: str) -> Callable[[], float]:
    """Return a function that returns by how much the sample has grown since now."""
    before = metric_value(name, **labels)
    return lambda: metric_value(name, **labels) - before
