"""How the leader reads the predictors' pods: by the API and by each pod's /state."""

from __future__ import annotations

import math
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from services.cluster.pods import PredictorPod, PredictorPods, ReadyPredictors
from services.engine.compute import VersionKey
from tests.support.api_server import FakeApiServer, serve_api
from tests.support.metrics import metric_value
from tests.support.waiting import eventually

STATE = b'{"held": {"5-1": ["v-1"]}}'


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as found:
        yield found


@pytest.fixture
def answers() -> Iterator[list[bytes]]:
    """The answers of a pod's /state, of which the last one is sent; the first item is the port."""
    bodies: list[bytes] = [STATE]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            assert self.path == "/state"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(bodies[-1])

        def log_message(self, *_: Any) -> None:
            """Quiet."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    bodies.insert(0, str(server.server_address[1]).encode())
    thread = threading.Thread(target=lambda: server.serve_forever(0.02))
    thread.start()
    yield bodies
    server.shutdown()
    server.server_close()
    thread.join()


def add_pod(api: FakeApiServer, name: str, *, ip: str | None = "127.0.0.1", **meta: Any) -> None:
    status = {"conditions": [{"type": "Ready", "status": "True"}]} | ({"podIP": ip} if ip else {})
    known = {"name": name, "labels": {"fitloop.io/predictor": "f"}} | meta
    api.put("pods", {"kind": "Pod", "metadata": known, "status": status})


def read_pods(api: FakeApiServer, port: int) -> list[PredictorPod]:
    return sorted(PredictorPods(api.kube(), "fitloop.io/predictor=f", port).read(), key=lambda pod: pod.name)


def test_reads_state_of_own_live_pods(api: FakeApiServer, answers: list[bytes]) -> None:
    add_pod(api, "p-1")
    add_pod(api, "p-2", ip=None)
    add_pod(api, "p-3", deletionTimestamp="2026-11-25T07:00:00Z")
    add_pod(api, "p-4", labels={"fitloop.io/predictor": "other"})
    loaded = frozenset({VersionKey("5-1", "v-1")})
    assert read_pods(api, int(answers[0])) == [
        PredictorPod("p-1", True, loaded=loaded, responds=True),
        PredictorPod("p-2", True),
    ]


@pytest.mark.parametrize("nonsense", [b"", b"<html>", b"[1]", b"[" * 100_000, STATE + b" " * (4 << 20)])
def test_invalid_state_counts_as_no_answer(api: FakeApiServer, answers: list[bytes], nonsense: bytes) -> None:
    add_pod(api, "p-1")
    answers.append(nonsense)
    assert read_pods(api, int(answers[0])) == [PredictorPod("p-1", True)]


def test_closed_port_counts_as_no_answer(api: FakeApiServer) -> None:
    add_pod(api, "p-1")
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = int(found.getsockname()[1])
    assert read_pods(api, port) == [PredictorPod("p-1", True)]


def test_reads_share_one_tls_context(
    api: FakeApiServer, answers: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        add_pod(api, f"p-{number}")
    predictors = PredictorPods(api.kube(), "fitloop.io/predictor=f", int(answers[0]))
    monkeypatch.setattr(ssl, "create_default_context", lambda *_, **__: pytest.fail("another one"))
    for _ in range(2):
        assert all(pod.responds for pod in predictors.read())


def test_no_pods_is_an_empty_list(api: FakeApiServer) -> None:
    assert read_pods(api, 1) == []


@pytest.mark.parametrize("phase", ["Failed", "Succeeded"])
def test_terminated_pods_are_ignored(api: FakeApiServer, answers: list[bytes], phase: str) -> None:
    """Kubernetes keeps evicted pods listed; an update that waited for one would never complete."""
    add_pod(api, "one")
    evicted = {"name": "two", "labels": {"fitloop.io/predictor": "f"}}
    api.put("pods", {"kind": "Pod", "metadata": evicted, "status": {"phase": phase}})
    assert [pod.name for pod in read_pods(api, int(answers[0]))] == ["one"]


def build_predictor(name: str, *, ready: bool, phase: str = "Running") -> dict[str, object]:
    return {
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"x": "1"}},
        "status": {
            "phase": phase,
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }


def test_ready_predictors_are_counted(api: FakeApiServer) -> None:
    ready_predictors = ReadyPredictors(api.kube(), "x=1")
    assert math.isnan(ready_predictors.count())
    api.put("pods", build_predictor("a", ready=True))
    api.put("pods", build_predictor("b", ready=False))
    api.put("pods", build_predictor("c", ready=True, phase="Failed"))
    ready_predictors.start()
    try:
        eventually(lambda: metric_value("fitloop_predictors_ready") == 1)
        api.put("pods", build_predictor("b", ready=True))
        eventually(lambda: metric_value("fitloop_predictors_ready") == 2)
        api.remove("pods", "a")
        eventually(lambda: metric_value("fitloop_predictors_ready") == 1)
    finally:
        ready_predictors.close()
