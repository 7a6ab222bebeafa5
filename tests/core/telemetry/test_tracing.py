"""core.tracing: nothing unless it is asked for, and then spans of ids and figures, without what errors say."""

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
from services.core.telemetry import otel, tracing
from tests.support.tracing import capture_spans, finished_spans

_SECRET = "a text that a customer wrote"
_ROOT = Path(__file__).parents[3]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    with capture_spans() as found:
        yield found


def _id(span: Any) -> int:
    return int(span.context.span_id)


def test_without_an_endpoint_nothing_is_imported_and_nothing_is_said() -> None:
    script = (
        "import sys; from services.core import tracing; from services.core.settings import TracingSettings\n"
        "tracing.configure(TracingSettings(), 'test')\n"
        "with tracing.span('a', {'run': '5-1'}) as span: span.say(status=200); span.failed('ValueError')\n"
        "tracing.begin('b').end(); tracing.close()\n"
        "assert tracing.traceparent() == ''\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    said = subprocess.run(
        [sys.executable, "-c", script],
        env={"PYTHONPATH": str(_ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "[]"


def test_spans_nest_and_hold_ids(exporter: InMemorySpanExporter) -> None:
    with tracing.span("outer", {"project": 5, "run": "5-1"}) as outer:
        tracing.begin("inner", {"stage": "reading"}, kind="client").end()
        outer.say(status=200)
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


def test_a_trace_goes_on_from_a_traceparent(exporter: InMemorySpanExporter) -> None:
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
def test_what_is_no_traceparent_begins_a_trace(given: str, exporter: InMemorySpanExporter) -> None:
    with tracing.span("here", parent=given):
        pass
    assert finished_spans(exporter)["here"].parent is None


def test_of_an_error_the_kind_alone_issent(exporter: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError, match="customer"), tracing.span("here"):
        raise ValueError(_SECRET)
    span = finished_spans(exporter)["here"]
    assert span.attributes == {"error.type": "ValueError"}
    assert span.events == ()
    assert _SECRET not in span.to_json()
    assert span.status.description == "ValueError"


def test_what_is_not_on_the_list_is_said_by_no_span(exporter: InMemorySpanExporter) -> None:
    del exporter
    with pytest.raises(KeyError):
        tracing.begin("here", {"text": _SECRET})


@pytest.mark.parametrize(
    ("given", "url"),
    [("http://otel:4318", "http://otel:4318/v1/traces"), ("http://otel/v1/traces", "http://otel/v1/traces")],
)
def test_an_endpoint_is_a_collectors_address_or_the_whole_of_it(given: str, url: str) -> None:
    settings = TracingSettings(FITLOOP_TRACES_ENDPOINT=given)
    assert settings.on
    assert settings.url == url


def test_a_collector_of_others_switches_nothing_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may speak gRPC alone, and OpenTelemetry may not be installed here."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "otel:4317")
    assert not TracingSettings().on


def test_opentelemetrys_own_variable_switches_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not TracingSettings(FITLOOP_TRACES_ENDPOINT="http://otel:4318").on


def test_the_end_of_the_process_waits_for_no_collector_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    given, come = threading.Event(), threading.Event()

    class Away(InMemorySpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            come.set()
            given.wait(10)
            return super().export(spans)

    monkeypatch.setattr(otel, "_SECONDS", 0.1)
    tracing.configure(TracingSettings(), "test", Away())
    with tracing.span("here"):
        pass
    began = time.monotonic()
    tracing.close()
    assert come.is_set()
    assert time.monotonic() - began < 5
    given.set()


def test_who_asks_for_traces_without_the_extra_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing, "find_spec", lambda _: None)
    with pytest.raises(BadConfig, match=r"fitloop\[tracing\]"):
        tracing.configure(TracingSettings(FITLOOP_TRACES_ENDPOINT="http://otel:4318"), "test")
