"""Spans kept in memory; all are there once tracing has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.core.settings import TracingSettings
from services.core.telemetry import tracing


@contextmanager
def capture_spans() -> Iterator[InMemorySpanExporter]:
    """Trace until the end of the block."""
    found = InMemorySpanExporter()
    tracing.configure(TracingSettings(), "test", found)
    yield found
    tracing.close()


def finished_spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """End tracing and return all spans by name."""
    tracing.close()
    return {span.name: span for span in exporter.get_finished_spans()}
