"""One trace from a request to the predictor, and from a train command to the stages of its run."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette

from services.adapter.app import create_app
from services.adapter.state.board import Board, ProjectView
from services.cluster.inference import RemoteInference
from services.core.domain import Project, Served
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.serving_table import ServingTableReader
from services.core.settings import AuthSettings, ClusterSettings, ServingSettings, Settings
from services.core.store.files import FileStore
from services.predictor.manager import ModelManager
from services.predictor.routes import Routes
from tests.support.base_models import build_tiny_base
from tests.support.controller import ControllerWorld as Supervised
from tests.support.fakes import SPACE, FakeEventSink
from tests.support.http_server import serve_http
from tests.support.inference import local_inference
from tests.support.tracing import capture_spans, finished_spans
from tests.support.trainer import TrainerWorld
from tests.support.trainer_process import serve_label_studio as label_studio
from tests.support.trainer_process import trainer_command, trainer_environment
from tests.support.versions import KEY, build_tiny_version, publish_versions, write_serving_table

PATH = "marked-secret-path-44"
TEXT = "Dear zitronenbaum"
CARRIED = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    with capture_spans() as found:
        yield found


def is_below(child: ReadableSpan, parent: ReadableSpan) -> bool:
    own, above = child.parent, parent.context
    return bool(own and above and (own.trace_id, own.span_id) == (above.trace_id, above.span_id))


@pytest.fixture
def event_sink() -> FakeEventSink:
    return FakeEventSink()


@pytest.fixture
def adapter(tmp_path: Path, event_sink: FakeEventSink) -> Iterator[httpx.AsyncClient]:
    """The real applications of adapter and predictor over a registry in a folder."""
    registry = Registry(FileStore(tmp_path / "store"))
    publish_versions(registry, build_tiny_version(tmp_path / "made"), "v-1")
    write_serving_table(registry, {KEY: Served("v-1")})
    local = local_inference(registry, ServingSettings(workers=1))
    manager = ModelManager(local, ServingTableReader(registry.store), "reload")
    manager.read_table()
    manager.load_missing()
    predictor = httpx.ASGITransport(Starlette(routes=Routes(local, manager).routes()))
    remote = RemoteInference(ClusterSettings(predictor_url="http://models.test"), predictor)
    board = Board()
    project = Project(KEY, 5, "Reviews", "<View/>", "hash", "2026-11-23T22:35:52Z")
    board.put(ProjectView(project, replace(SPACE, labels=("A", "B")), Served("v-1")))
    board.ready.set()
    settings = Settings(auth=AuthSettings(secret_path=PATH))
    app = create_app(settings, board, event_sink, remote, registry, Runs(registry.store))
    yield httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://fitloop.test")
    remote.close()
    local.close()


async def test_a_prediction_is_one_trace(adapter: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    """Spans are children of the caller's, with ids and numbers, but without texts or the secret path."""
    body = {"project": 5, "tasks": [{"data": {"text": TEXT}}, {"data": {"text": f"{TEXT} again"}}]}
    headers = {"X-Request-ID": "seven", "traceparent": CARRIED}
    async with adapter:
        answer = await adapter.post(f"/{PATH}/predict", json=body, headers=headers)
    assert answer.json()["results"][0]
    spans = finished_spans(exporter)
    request, hop, scored = spans["POST /predict"], spans["inference"], spans["score"]
    assert request.parent is not None
    assert f"{request.parent.span_id:016x}" == CARRIED.split("-")[2]
    assert is_below(hop, request)
    assert is_below(scored, hop)
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "fitloop.request_id": "seven",
    }
    assert hop.attributes == {"fitloop.project": 5, "fitloop.version": "v-1", "fitloop.texts": 2}
    assert scored.attributes == {
        "fitloop.project": 5,
        "fitloop.version": "v-1",
        "fitloop.texts": 2,
        "fitloop.request_id": "seven",
        "http.response.status_code": 200,
    }
    everything = "".join(span.to_json() for span in spans.values())
    assert "zitronenbaum" not in everything
    assert PATH not in everything


async def test_probes_are_not_traced(adapter: httpx.AsyncClient, exporter: InMemorySpanExporter) -> None:
    async with adapter:
        for path in ("/health", "/livez", "/readyz", "/metrics"):
            await adapter.get(path)
    assert finished_spans(exporter) == {}


async def test_a_train_command_and_its_run_share_a_trace(
    adapter: httpx.AsyncClient, event_sink: FakeEventSink, exporter: InMemorySpanExporter
) -> None:
    async with adapter:
        await adapter.post(f"/{PATH}/webhook", json={"action": "START_TRAINING", "project": {"id": 5}})
    (wish,) = event_sink.commands
    supervised = Supervised()
    supervised.connect()
    supervised.label_studio.label_many(5)  # fewer than begin a run by themselves
    supervised.inbox.add_command(replace(wish, project_id=1))
    supervised.settle()
    request = supervised.runs.request("1-1")
    assert request is not None
    spans = finished_spans(exporter)
    assert is_below(spans["request run"], spans["POST /webhook"])
    assert spans["request run"].attributes == {"fitloop.project": 1, "fitloop.run": "1-1"}
    own = spans["request run"].context
    assert own is not None
    # sampled, and its id is random
    assert request.traceparent == f"00-{own.trace_id:032x}-{own.span_id:016x}-03"


class Collector:
    """An OpenTelemetry collector."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()

    def take(self, data: bytes) -> None:
        for group in ExportTraceServiceRequest.FromString(data).resource_spans:
            own = {one.key: one.value.string_value for one in group.resource.attributes}
            self.services.add(own["service.name"])
            self.spans += [span for scope in group.scope_spans for span in scope.spans]


@contextmanager
def collecting() -> Iterator[tuple[Collector, str]]:
    collector = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/traces"
            collector.take(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
            """Log nothing."""

    with serve_http(Handler) as url:
        yield collector, url


@pytest.mark.slow
def test_a_trainer_continues_the_trace_of_its_request(tmp_path: Path) -> None:
    """Over OTLP, with the variables that a pod gets; everything is sent before the process ends."""
    world = TrainerWorld(tmp_path / "data", build_tiny_base(tmp_path / "base"))
    world.label(30)
    run = world.request()
    request = world.runs.request(run)
    assert request is not None
    world.runs.write(replace(request, traceparent=CARRIED))
    with collecting() as (collector, url), label_studio(world) as address:
        given = trainer_environment(address, FITLOOP_TRACES_ENDPOINT=url, LOG_LEVEL="DEBUG")
        ended = subprocess.run(
            trainer_command(world, run), env=given, capture_output=True, text=True, check=False
        )
    assert ended.returncode == 0, ended.stderr
    assert collector.services == {"fitloop-trainer"}
    (whole,) = (span for span in collector.spans if span.name == "run")
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == tuple(CARRIED.split("-")[1:3])
    stages = {span.name: span for span in collector.spans if span is not whole}
    assert {"stage reading", "stage features", "stage judging", "stage publishing"} <= stages.keys()
    assert {span.parent_span_id for span in stages.values()} == {whole.span_id}
    actual = {one.key for span in collector.spans for one in span.attributes}
    assert actual == {"fitloop.run", "fitloop.project", "fitloop.attempt", "fitloop.stage"}
