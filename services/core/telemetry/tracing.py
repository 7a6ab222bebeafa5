"""Spans of what happens, for an OpenTelemetry collector: off unless an endpoint is named, and only then imported.

A trace goes from process to process as W3C's `traceparent`: in a header from the adapter to the predictor, in request.json
from the adapter to the trainer. What a span may say of itself is a closed list of ids and figures (`core.otel`), so that no
text gets into one; of an error it holds the kind alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from services.core.errors import BadConfig
from services.core.settings import TracingSettings
from services.core.telemetry.spans import NOTHING, Kind, Said, Span, Tracer, Value

if TYPE_CHECKING:
    from opentelemetry.sdk.trace.export import SpanExporter


class _NoSpan:
    """Nothing, when traces are off."""

    def say(self, **attributes: Value) -> None:
        pass

    def failed(self, kind: str) -> None:
        pass

    def end(self) -> None:
        pass


NO_SPAN: Span = _NoSpan()
_tracers: list[Tracer] = []
"""The process's one; none when traces are off."""


def configure(settings: TracingSettings, component: str, exporter: SpanExporter | None = None) -> None:
    """Have spans sent to the endpoint of the settings, or to `exporter`. Raises BadConfig where the extra is not installed."""
    close()
    if exporter is None and not settings.on:
        return
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise BadConfig(
            "FITLOOP_TRACES_ENDPOINT is set, and OpenTelemetry is not installed: `pip install 'fitloop[tracing]'`, or unset it."
        )
    from services.core.telemetry.otel import Otel  # noqa: PLC0415  # a tenth of a second that only those pay who trace

    _tracers.append(Otel.of(settings, component, exporter))


def close() -> None:
    """At the end of the process."""
    while _tracers:
        _tracers.pop().close()


def begin(name: str, said: Said = NOTHING, *, kind: Kind = "internal", parent: str = "") -> Span:
    """A span that somebody ends."""
    return _tracers[0].begin(name, kind, parent, said) if _tracers else NO_SPAN


@contextmanager
def span(name: str, said: Said = NOTHING, *, kind: Kind = "internal", parent: str = "") -> Iterator[Span]:
    """A span for as long as the block takes, the current one meanwhile."""
    if not _tracers:
        yield NO_SPAN
        return
    tracer = _tracers[0]
    found = tracer.begin(name, kind, parent, said)
    try:
        with tracer.within(found):
            yield found
    except BaseException as error:
        found.failed(type(error).__name__)
        raise
    finally:
        found.end()


def traceparent() -> str:
    """Of the current span, for another process; "" where there is none."""
    return _tracers[0].traceparent() if _tracers else ""
