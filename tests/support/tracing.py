"""Spans as a test sees them: kept in memory, all there once tracing has ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.core.settings import TracingSettings
from services.core.telemetry import tracing


@contextmanager
def capture_spans() -> Iterator[InMemorySpanExporter]:
    """Traces are on until the end of the block."""
    found = InMemorySpanExporter()
    tracing.configure(TracingSettings(), "test", found)
    yield found
    tracing.close()


def finished_spans(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    """All spans by name; nothing is traced any more."""
    tracing.close()
    return {span.name: span for span in exporter.get_finished_spans()}
