"""Known label values exist from the start, and the state of engines is read at each scrape."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from prometheus_client import REGISTRY

from services.engine import metrics
from services.engine.metrics import EngineState
from tests.support.metrics import metric_growth, metric_value

_ALONE = """
import sys
import services.engine.metrics
from prometheus_client import generate_latest
heavy = {"torch", "numpy", "ctranslate2", "tokenizers", "transformers", "kserve"} & set(sys.modules)
assert not heavy, heavy
print(generate_latest().decode())
"""


@pytest.fixture(scope="module")
def exported_alone() -> str:
    """The metrics of a process that has only imported the module."""
    return subprocess.run([sys.executable, "-c", _ALONE], check=True, capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "line",
    [
        "fitloop_engine_texts_total 0.0",
        "fitloop_engine_tokens_total 0.0",
        "fitloop_engine_padding_tokens_total 0.0",
        "fitloop_engine_queue_seconds_count 0.0",
        "fitloop_engine_tokenise_seconds_count 0.0",
        "fitloop_engine_inference_seconds_count 0.0",
        "fitloop_engine_batch_texts_count 0.0",
        'fitloop_engine_version_requests_total{outcome="hit"} 0.0',
        'fitloop_engine_version_requests_total{outcome="load"} 0.0',
        'fitloop_engine_version_requests_total{outcome="refused"} 0.0',
        'fitloop_engine_rejected_total{reason="queue_full"} 0.0',
        'fitloop_engine_rejected_total{reason="memory"} 0.0',
        'fitloop_engine_versions{engine="ct2-int8"} 0.0',
        'fitloop_engine_versions{engine="torch-fp32"} 0.0',
        'fitloop_engine_versions{engine="torch-bf16"} 0.0',
        'fitloop_engine_versions{engine="torch-fp16"} 0.0',
        "fitloop_engine_waiting_texts 0.0",
        "fitloop_engine_queue_limit_texts 0.0",
        "fitloop_engine_held_bytes 0.0",
        "fitloop_engine_budget_bytes 0.0",
        "fitloop_engine_encoders 0.0",
        "fitloop_engine_heads 0.0",
        "fitloop_engine_active_encoders 0.0",
        "fitloop_engine_active_bytes 0.0",
        "fitloop_engine_evictions_total 0.0",
        'fitloop_engine_recent_texts_total{outcome="hit"} 0.0',
        'fitloop_engine_encoder_loads_total{outcome="loaded"} 0.0',
        'fitloop_engine_encoder_loads_total{outcome="dropped"} 0.0',
        'fitloop_engine_encoder_loads_total{outcome="no_memory"} 0.0',
    ],
)
def test_known_label_values_start_at_0_without_heavy_imports(exported_alone: str, line: str) -> None:
    assert line in exported_alone.splitlines()


def test_gpu_memory_is_absent_without_gpu(exported_alone: str) -> None:
    assert "# TYPE fitloop_engine_gpu_memory_bytes gauge" in exported_alone
    assert "\nfitloop_engine_gpu_memory_bytes " not in exported_alone


class FakeEngine:
    def __init__(self, now: EngineState) -> None:
        self._now = now

    def state(self) -> EngineState:
        return self._now


@contextmanager
def _registered(*states: EngineState) -> Iterator[None]:
    engines = [FakeEngine(state) for state in states]
    for engine in engines:
        metrics.register(engine)
    try:
        yield
    finally:
        for engine in engines:
            metrics.unregister(engine)


def test_engine_states_are_summed_until_closed() -> None:
    names = ("fitloop_engine_waiting_texts", "fitloop_engine_queue_limit_texts", "fitloop_engine_held_bytes")
    before = [metric_growth(name) for name in names]
    int8, fp32 = (
        metric_growth("fitloop_engine_versions", engine=kind) for kind in ("ct2-int8", "torch-fp32")
    )
    with _registered(
        EngineState(3, 100, ("ct2-int8", "ct2-int8"), 500), EngineState(4, 50, ("ct2-int8", "torch-fp32"), 70)
    ):
        assert [grown() for grown in before] == [7, 150, 570]
        assert (int8(), fp32()) == (3, 1)
    assert [grown() for grown in before] == [0, 0, 0]
    assert (int8(), fp32()) == (0, 0)


def test_unknown_engine_kind_is_exported() -> None:
    with _registered(EngineState(0, 1, ("onnx",), 0)):
        assert metric_value("fitloop_engine_versions", engine="onnx") == 1


def test_gpu_memory_is_exported_with_gpu() -> None:
    with _registered(EngineState(0, 1, (), 0, gpu_memory_bytes=10), EngineState(0, 1, (), 0)):
        assert metric_value("fitloop_engine_gpu_memory_bytes") == 10
    assert REGISTRY.get_sample_value("fitloop_engine_gpu_memory_bytes") is None


def test_batch_counts_texts_tokens_and_padding() -> None:
    names = ("texts_total", "tokens_total", "padding_tokens_total", "batch_texts_sum", "batch_texts_count")
    grown = [metric_growth(f"fitloop_engine_{name}") for name in names]
    seconds = metric_growth("fitloop_engine_inference_seconds_sum")
    metrics.observe_batch([3, 5, 10], 0.25)
    assert [found() for found in grown] == [3, 18, 12, 3, 1]
    assert seconds() == pytest.approx(0.25)
