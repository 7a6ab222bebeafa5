"""A fake Kubernetes API server for one namespace, over real HTTP: versioned objects, watches and configurable faults."""

from __future__ import annotations

import copy
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from kubernetes import client

from services.cluster.client import Document, Kube

NAMESPACE = "here"
_TICK = 0.02


@dataclass
class FakeApiServer:
    """State and behaviour of the server. Attributes may be changed while it runs."""

    objects: dict[tuple[str, str], Document] = field(default_factory=dict)
    """By plural and name."""
    log: list[tuple[int, str, Document]] = field(default_factory=list)
    """Resource version, event type and object: what watches send."""
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path and query of each request."""
    faults: list[tuple[str, int, dict[str, str]]] = field(default_factory=list)
    """Method, status and headers for the next request with that method; status 0 closes the connection."""
    oldest: int = 0
    """A watch from an older version gets 410."""
    answering: threading.Event = field(default_factory=threading.Event)
    """No request is answered while this is clear."""
    cut: int = 0
    """Incrementing it closes all watches."""
    lock: threading.Condition = field(default_factory=threading.Condition)
    """Notified of every change."""
    version: int = 100
    port: int = 0

    def __post_init__(self) -> None:
        """Start answering."""
        self.answering.set()

    def put(self, plural: str, body: Document, kind: str = "") -> Document:
        """Add or change an object, as another client would."""
        with self.lock:
            self.version += 1
            made = copy.deepcopy(body)
            meta = made.setdefault("metadata", {})
            meta.setdefault("uid", f"uid-{self.version}")
            meta["resourceVersion"] = str(self.version)
            known = (plural, meta["name"]) in self.objects
            self.objects[plural, meta["name"]] = made
            self.log.append((self.version, kind or ("MODIFIED" if known else "ADDED"), made))
            self.lock.notify_all()
            return copy.deepcopy(made)

    def remove(self, plural: str, name: str) -> None:
        with self.lock:
            self.version += 1
            gone = self.objects.pop((plural, name))
            gone["metadata"]["resourceVersion"] = str(self.version)
            self.log.append((self.version, "DELETED", gone))
            self.lock.notify_all()

    def count_requests(self, method: str, plural: str) -> int:
        """Return how many requests had that method and plural."""
        return sum(one[0] == method and f"/{plural}" in one[1] for one in self.asked)

    def list_objects(self, plural: str) -> list[Document]:
        with self.lock:
            return [found for (kind, _), found in self.objects.items() if kind == plural]

    def kube(self, seconds: tuple[float, float] = (1.0, 5.0)) -> Kube:
        """Return a client of this server."""
        configuration = client.Configuration()
        configuration.host = f"http://127.0.0.1:{self.port}"
        configuration.retries = False
        api = client.ApiClient(configuration)
        return Kube(NAMESPACE, client.CustomObjectsApi(api), client.CoreV1Api(api), seconds)

    def kubeconfig(self) -> str:
        """Return a kubeconfig for a child process."""
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    closed = False
    api: FakeApiServer

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        api, url = self.server.api, urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        api.asked.append((self.command, url.path, query))
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or "{}")
        api.answering.wait()
        fault = next((one for one in api.faults if one[0] == self.command), None)
        if fault:
            api.faults.remove(fault)
            if fault[1] == 0:
                self.close_connection = True
                self.connection.close()
                return
            self._say(fault[1], _status(fault[1], "told to"), fault[2])
            return
        plural, _, name = url.path.split(f"/namespaces/{NAMESPACE}/")[1].partition("/")
        if query.get("watch"):
            self._watch(api, plural, query)
            return
        with api.lock:
            self._say(*self._act(api, plural, name, query, body))

    def _act(
        self, api: FakeApiServer, plural: str, name: str, query: dict[str, str], body: Document
    ) -> tuple[int, Document]:
        key = plural, name
        if self.command == "GET" and not name:
            found = [one for one in api.list_objects(plural) if _chosen(one, query.get("labelSelector", ""))]
            return 200, {"items": found, "metadata": {"resourceVersion": str(api.version)}}
        if self.command == "POST":
            if (plural, body["metadata"]["name"]) in api.objects:
                return 409, _status(409, "already exists")
            return 201, body if query.get("dryRun") else api.put(plural, body)
        if key not in api.objects:
            return 404, _status(404, f'{plural} "{name}" not found')
        return self._act_on(api, key, body)

    def _act_on(self, api: FakeApiServer, key: tuple[str, str], body: Document) -> tuple[int, Document]:
        plural, name = key
        if self.command == "PUT":
            if body["metadata"].get("resourceVersion") != api.objects[key]["metadata"]["resourceVersion"]:
                return 409, _status(409, "the object has been modified")
            return 200, api.put(plural, body)
        if self.command == "DELETE":
            api.remove(plural, name)
            return 200, _status(200, "deleted")
        if self.command == "PATCH":
            return 200, api.put(plural, _merged(api.objects[key], body))
        return 200, api.objects[key]

    def _watch(self, api: FakeApiServer, plural: str, query: dict[str, str]) -> None:
        at, cut = int(query["resourceVersion"]), api.cut
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        if at < api.oldest:
            gone = {"type": "ERROR", "object": _status(410, "too old resource version")}
            self._chunk(gone)
            self.wfile.write(b"0\r\n\r\n")
            return
        end = time.monotonic() + float(query.get("timeoutSeconds", 60))
        while time.monotonic() < end:
            if api.cut != cut or self.server.closed:  # a watch may begin while its server closes
                self.close_connection = True
                self.connection.close()
                return
            with api.lock:  # a cut is no change: it is seen within a tick
                api.lock.wait_for(lambda seen=at: api.version > seen, _TICK)  # type: ignore[misc]  # bound here: ruff B023
                due = [one for one in api.log if one[0] > at]
            for at, kind, found in due:  # noqa: B007  # the last one is where to go on
                if _is_of(found, plural) and _chosen(found, query.get("labelSelector", "")):
                    self._chunk({"type": kind, "object": found})
        self.wfile.write(b"0\r\n\r\n")

    def _chunk(self, event: Document) -> None:
        line = json.dumps(event).encode() + b"\n"
        self.wfile.write(f"{len(line):x}\r\n".encode() + line + b"\r\n")
        self.wfile.flush()

    def _say(self, status: int, body: Document, headers: dict[str, str] | None = None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  # http.server's names


@contextmanager
def serve_api(api: FakeApiServer) -> Iterator[FakeApiServer]:
    """Serve at a free port, or at the same port again after an outage."""
    server = _Server(("127.0.0.1", api.port), _Handler)
    server.api, api.port = api, server.server_address[1]
    thread = threading.Thread(target=lambda: server.serve_forever(_TICK), daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.answering.set()
        server.shutdown()
        server.server_close()
        thread.join()
        server.closed = True
        api.cut += 1


def _status(code: int, message: str) -> Document:
    return {"kind": "Status", "code": code, "message": message, "metadata": {}}


def _is_of(found: Document, plural: str) -> bool:
    return f"{str(found.get('kind', '')).lower()}s" == plural


def _chosen(found: Document, selector: str) -> bool:
    labels = found["metadata"].get("labels") or {}
    for part in filter(None, selector.split(",")):
        key, _, value = part.partition("=")
        if key not in labels or (value and labels[key] != value):
            return False
    return True


def _merged(one: Document, change: Document) -> Document:
    both = copy.deepcopy(one)
    for key, value in change.items():
        if value is None:
            both.pop(key, None)
        else:
            both[key] = _merged(both.get(key) or {}, value) if isinstance(value, dict) else value
    return both
