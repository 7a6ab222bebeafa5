"""Traces for an OpenTelemetry collector; with no endpoint set, OpenTelemetry's API makes spans that do nothing.

A trace crosses processes as W3C's `traceparent`: in a header from the adapter to the predictor, in request.json from the
adapter to the trainer. Attributes are the closed list ATTRIBUTES of ids and figures, so that no text gets into a span; an
error is recorded by its class alone. Sampling, headers and the service's name are OpenTelemetry's own variables:
OTEL_TRACES_SAMPLER, OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.trace import INVALID_SPAN, Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services import __version__
from services.core.errors import BadConfig
from services.core.settings import TracingSettings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter

__all__ = [
    "INVALID_SPAN",
    "Span",
    "SpanKind",
    "annotate",
    "close",
    "configure",
    "span",
    "start",
    "traceparent",
]

Value = str | int | float | bool
ATTRIBUTES: Final = {
    "method": "http.request.method",
    "route": "http.route",
    "status": "http.response.status_code",
    "error": "error.type",
    "request_id": "fitloop.request_id",
    "project": "fitloop.project",
    "version": "fitloop.version",
    "run": "fitloop.run",
    "attempt": "fitloop.attempt",
    "stage": "fitloop.stage",
    "outcome": "fitloop.outcome",
    "texts": "fitloop.texts",
}
"""Every attribute a span may have, and its name in OpenTelemetry."""
_NONE: Final[Mapping[str, Value]] = {}
_COLLECTOR_SECONDS: Final = 5
"""For one request to the collector, and for what is unsent when the process ends."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()
_providers: list[TracerProvider] = []
"""The process's provider; empty while traces are off."""


def configure(settings: TracingSettings, component: str, exporter: SpanExporter | None = None) -> None:
    """Send spans to the endpoint of the settings, or to `exporter`. Raises BadConfig where the extra is not installed."""
    close()
    if exporter is None and not settings.on:
        return
    try:
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415  # an extra, and slow to import
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415

        exporter = exporter or _otlp_exporter(settings.url)
    except ImportError as error:
        raise BadConfig(
            "FITLOOP_TRACES_ENDPOINT is set, and OpenTelemetry is not installed: `pip install 'fitloop[tracing]'`, or unset it."
        ) from error
    name = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"fitloop-{component}"}
    resource = Resource.create({**name, "service.version": __version__})
    provider = TracerProvider(resource=resource, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    _providers.append(provider)


def close() -> None:
    """Send unsent spans, for a few seconds at most: the SDK itself keeps trying until its queue is empty."""
    while _providers:
        shutdown = threading.Thread(target=_providers.pop().shutdown, name="traces", daemon=True)
        shutdown.start()
        shutdown.join(_COLLECTOR_SECONDS)


def start(
    name: str,
    attributes: Mapping[str, Value] = _NONE,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str = "",
) -> Span:
    """Start a span that the caller ends: in the trace that `parent` (a traceparent) names, else below the current span."""
    if not _providers:
        return INVALID_SPAN
    tracer = _providers[0].get_tracer("fitloop", __version__)
    context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
    return tracer.start_span(name, context, kind, _named(attributes), record_exception=False)


@contextmanager
def span(
    name: str,
    attributes: Mapping[str, Value] = _NONE,
    *,
    kind: SpanKind = SpanKind.INTERNAL,
    parent: str = "",
) -> Iterator[Span]:
    """Make a span the current one for the block, and end it with the block."""
    if not _providers:
        yield INVALID_SPAN
        return
    found = start(name, attributes, kind=kind, parent=parent)
    with trace.use_span(found, end_on_exit=True, record_exception=False, set_status_on_exception=False):
        try:
            yield found
        except BaseException as error:
            annotate(found, error=type(error).__name__)
            found.set_status(Status(StatusCode.ERROR, type(error).__name__))
            raise


def annotate(span: Span, **attributes: Value) -> None:
    """Add attributes of the closed list. Raises KeyError for any other, unless traces are off."""
    if span.is_recording():
        span.set_attributes(_named(attributes))


def traceparent() -> str:
    """Return the current span's traceparent, for another process; "" where there is none."""
    carrier: dict[str, str] = {}
    _PROPAGATOR.inject(carrier)
    return carrier.get("traceparent", "")


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {ATTRIBUTES[name]: value for name, value in attributes.items()}


def _otlp_exporter(url: str) -> SpanExporter:
    from opentelemetry.exporter.otlp.proto.http import trace_exporter  # noqa: PLC0415  # as above

    return trace_exporter.OTLPSpanExporter(endpoint=url, timeout=_COLLECTOR_SECONDS)
