"""The doctor's own requests to Kubernetes, over real HTTP."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import pytest
from kubernetes import client

from services.cluster.client import ClusterError, Kube
from services.cluster.inspect import Inspector

ANSWERS: dict[str, Any] = {
    "/version/": {"gitVersion": "v1.36.3"},
    "/api/v1/nodes": {"items": [{"metadata": {"name": "node"}}]},
    "/api/v1/namespaces/here/configmaps/fitloop-job": {"data": {"job.yaml": "kind: Job"}},
    "/api/v1/namespaces/here/pods/a:9091/proxy/metrics": "a_total 1",
    "/apis/networking.k8s.io/v1/namespaces/here/ingresses/fitloop": {
        "spec": {"rules": [{"host": "m.example", "http": {"paths": [{"path": "/x/"}]}}], "tls": [{}]}
    },
    "/apis/networking.k8s.io/v1/namespaces/here/ingresses/bare": {"spec": {"rules": [{}]}},
}


class FakeApiHandler(BaseHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Quiet."""

    def do_GET(self) -> None:
        found = ANSWERS.get(unquote(self.path))  # the client writes a:9091 as a%3A9091
        self._say(404 if found is None else 200, found)

    def do_POST(self) -> None:
        spec = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["spec"]
        wanted = spec["resourceAttributes"]
        user = spec.get("user", "system:serviceaccount:here:fitloop-adapter")
        good = (wanted["verb"], wanted["resource"], wanted["group"]) == ("create", "jobs", "batch")
        self._say(201, {"status": {"allowed": good and user == "system:serviceaccount:here:fitloop-adapter"}})

    def _say(self, status: int, found: Any) -> None:
        data = (found if isinstance(found, str) else json.dumps(found)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def inspector() -> Iterator[Inspector]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeApiHandler)
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    configuration = client.Configuration()
    configuration.host = f"http://127.0.0.1:{server.server_address[1]}"
    configuration.retries = False
    api = client.ApiClient(configuration)
    yield Inspector(Kube("here", client.CustomObjectsApi(api), client.CoreV1Api(api), (1.0, 5.0)))
    server.shutdown()
    server.server_close()
    thread.join()


def test_reads_version_nodes_and_config_maps(inspector: Inspector) -> None:
    version, date = inspector.version()
    assert version == "v1.36.3"
    assert date.endswith("GMT")
    assert inspector.nodes()[0]["metadata"]["name"] == "node"
    assert inspector.config_map("fitloop-job") == {"job.yaml": "kind: Job"}
    assert inspector.get_from_pod("a", 9091, "/metrics") == "a_total 1"
    assert inspector.ingress_url("fitloop") == "https://m.example/x"
    assert inspector.ingress_url("bare") == ""


def test_access_reviews_for_self_and_service_account(inspector: Inspector) -> None:
    assert inspector.is_allowed("create", "jobs.batch")
    assert not inspector.is_allowed("create", "pods")
    assert inspector.is_allowed("create", "jobs.batch", account="fitloop-adapter")
    assert not inspector.is_allowed("create", "jobs.batch", account="other")


def test_refusals_become_cluster_errors(inspector: Inspector) -> None:
    with pytest.raises(
        ClusterError, match=r"Kubernetes answered 404 \(Not Found\) to the request to read the Ingress none."
    ):
        inspector.ingress_url("none")
    with pytest.raises(ClusterError, match="404"):
        inspector.config_map("none")
    inspector.kube._core.api_client.configuration.host = "http://127.0.0.1:9"
    with pytest.raises(ClusterError, match="does not answer"):
        inspector.nodes()
