"""Spans: none while traces are off, and otherwise ids and figures without the messages of errors."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from services.core.errors import BadConfig
from services.core.settings import TracingSettings
from services.core.telemetry import tracing
from tests.support.tracing import capture_spans, finished_spans

_SECRET = "a text that a customer wrote"
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    with capture_spans() as found:
        yield found


def _id(span: Any) -> int:
    return int(span.context.span_id)


def test_without_an_endpoint_the_sdk_is_not_imported() -> None:
    script = (
        "import sys; from services.core.telemetry import tracing; from services.core.settings import TracingSettings\n"
        "tracing.configure(TracingSettings(), 'test')\n"
        "with tracing.span('a', {'run': '5-1'}) as span: tracing.annotate(span, status=200)\n"
        "tracing.start('b').end(); tracing.close()\n"
        "assert tracing.traceparent() == ''\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry.sdk')])"
    )
    output = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.strip() == "[]"


def test_without_an_endpoint_no_traceparent_is_passed_on() -> None:
    with tracing.span("here", parent="00-" + "1" * 32 + "-" + "2" * 16 + "-01"):
        assert tracing.traceparent() == ""


def test_spans_nest_and_hold_ids(exporter: InMemorySpanExporter) -> None:
    with tracing.span("outer", {"project": 5, "run": "5-1"}) as outer:
        tracing.start("inner", {"stage": "reading"}, kind=tracing.SpanKind.CLIENT).end()
        tracing.annotate(outer, status=200)
    spans = finished_spans(exporter)
    parent = spans["inner"].parent
    assert parent is not None
    assert parent.span_id == _id(spans["outer"])
    assert spans["inner"].attributes == {"fitloop.stage": "reading"}
    assert spans["outer"].attributes == {
        "fitloop.project": 5,
        "fitloop.run": "5-1",
        "http.response.status_code": 200,
    }
    assert spans["outer"].resource.attributes["service.name"] == "fitloop-test"


def test_a_traceparent_continues_its_trace(exporter: InMemorySpanExporter) -> None:
    with tracing.span("here"):
        carried = tracing.traceparent()
    with tracing.span("there", parent=carried):
        pass
    spans = finished_spans(exporter)
    parent = spans["there"].parent
    assert parent is not None
    assert (parent.trace_id, parent.span_id) == (
        spans["here"].get_span_context().trace_id,  # type: ignore[union-attr]  # a finished span has one
        _id(spans["here"]),
    )


@pytest.mark.parametrize("given", ["", "nonsense", "00-" + "0" * 32 + "-" + "0" * 16 + "-01"])
def test_an_invalid_traceparent_starts_a_new_trace(given: str, exporter: InMemorySpanExporter) -> None:
    with tracing.span("here", parent=given):
        pass
    assert finished_spans(exporter)["here"].parent is None


def test_only_the_class_of_an_error_is_recorded(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="customer"), tracing.span("here"):
        raise ValueError(_SECRET)
    span = finished_spans(exporter)["here"]
    assert span.attributes == {"error.type": "ValueError"}
    assert span.events == ()
    assert _SECRET not in span.to_json()
    assert span.status.description == "ValueError"


def test_an_attribute_that_is_not_listed_is_refused(exporter: InMemorySpanExporter) -> None:
    del exporter
    with pytest.raises(KeyError):
        tracing.start("here", {"text": _SECRET})


@pytest.mark.parametrize(
    ("given", "url"),
    [("http://otel:4318", "http://otel:4318/v1/traces"), ("http://otel/v1/traces", "http://otel/v1/traces")],
)
def test_an_endpoint_may_have_the_path_of_traces(given: str, url: str) -> None:
    settings = TracingSettings(endpoint=given)
    assert settings.on
    assert settings.url == url


def test_otels_own_endpoint_variable_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may speak gRPC alone, and OpenTelemetry may not be installed here."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "otel:4317")
    assert not TracingSettings().on


def test_otel_sdk_disabled_switches_traces_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not TracingSettings(endpoint="http://otel:4318").on


def test_close_does_not_wait_for_a_collector_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    given, come = threading.Event(), threading.Event()

    class Away(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            come.set()
            given.wait(10)
            return super().export(spans)

    monkeypatch.setattr(tracing, "_COLLECTOR_SECONDS", 0.1)
    tracing.configure(TracingSettings(), "test", Away())
    with tracing.span("here"):
        pass
    began = time.monotonic()
    tracing.close()
    assert come.is_set()
    assert time.monotonic() - began < 5
    given.set()


def test_a_missing_sdk_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.resources", None)
    with pytest.raises(BadConfig, match=r"fitloop\[tracing\]"):
        tracing.configure(TracingSettings(endpoint="http://otel:4318"), "test")
