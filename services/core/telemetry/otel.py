"""`core.tracing` by OpenTelemetry's SDK; imported when traces are on, and never otherwise.

Sampling, headers and names of the service are OpenTelemetry's own variables: OTEL_TRACES_SAMPLER,
OTEL_EXPORTER_OTLP_HEADERS, OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES.
"""

from __future__ import annotations

import os
import threading
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from services import __version__
from services.core.errors import BadConfig
from services.core.settings import TracingSettings
from services.core.telemetry.spans import Kind, Said, Span, Value

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter

NAMES: Final = {
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
"""All that a span may say, and how OpenTelemetry calls it."""
_KINDS: Final = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}
_SECONDS: Final = 5
"""For one request to the collector, and for what is left at the end of the process."""
_PROPAGATOR: Final = TraceContextTextMapPropagator()


@dataclass(frozen=True, slots=True)
class OtelSpan:
    """A span of the SDK."""

    span: trace.Span

    def say(self, **attributes: Value) -> None:
        """Known of it only now."""
        self.span.set_attributes(_named(attributes))

    def failed(self, kind: str) -> None:
        """An error's kind, and not its message."""
        self.say(error=kind)
        self.span.set_status(Status(StatusCode.ERROR, kind))

    def end(self) -> None:
        """It is over."""
        if self.span.is_recording():
            self.span.end()


@dataclass(frozen=True, slots=True)
class Otel:
    """A tracer of the SDK."""

    provider: TracerProvider
    tracer: trace.Tracer

    @classmethod
    def of(cls, settings: TracingSettings, component: str, exporter: SpanExporter | None) -> Otel:
        """Raises BadConfig where the exporter is not installed."""
        named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": f"fitloop-{component}"}
        resource = Resource.create({**named, "service.version": __version__})
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter or _exporter(settings.url)))
        return cls(provider, provider.get_tracer("fitloop", __version__))

    def begin(self, name: str, kind: Kind, parent: str, said: Said) -> Span:
        """A span; a parent that is no traceparent begins a trace of its own."""
        context = _PROPAGATOR.extract({"traceparent": parent}) if parent else None
        found = self.tracer.start_span(name, context, _KINDS[kind], _named(said), record_exception=False)
        return OtelSpan(found)

    def within(self, span: Span) -> AbstractContextManager[object]:
        """The span as the current one."""
        assert isinstance(span, OtelSpan)  # noqa: S101  # for the type checker: it is one of ours
        return trace.use_span(span.span, record_exception=False, set_status_on_exception=False)

    def traceparent(self) -> str:
        """Of the current span."""
        carrier: dict[str, str] = {}
        _PROPAGATOR.inject(carrier)
        return carrier.get("traceparent", "")

    def close(self) -> None:
        """Send what is left, for some seconds: the SDK itself goes on for as long as its queue lasts if nobody answers."""
        ending = threading.Thread(target=self.provider.shutdown, name="traces", daemon=True)
        ending.start()
        ending.join(_SECONDS)


def _named(said: Said) -> dict[str, Value]:
    return {NAMES[name]: value for name, value in said.items()}


def _exporter(url: str) -> SpanExporter:
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import (  # noqa: PLC0415  # an extra
            OTLPSpanExporter,
        )
    except ImportError as error:
        raise BadConfig(
            "OpenTelemetry's exporter is not installed: `pip install 'fitloop[tracing]'`, or unset FITLOOP_TRACES_ENDPOINT."
        ) from error
    return OTLPSpanExporter(endpoint=url, timeout=_SECONDS)
