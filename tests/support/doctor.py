"""Fakes for the doctor: a Fitloop behind a faulty ingress over real HTTP, and a cluster."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from services.adapter.routes.auth import LABEL_STUDIO_PATHS
from services.cli.checks import Context, Location
from services.cli.client import Adapters
from services.core.settings import AuthSettings, LabelStudioSettings, Settings, StorageSettings

LABEL_STUDIO_URL = "http://studio.example"


def build_context(
    folder: Path,
    url: str = "",
    where: Location = Location.MACHINE,
    auth: AuthSettings | None = None,
    inspector: Any = None,
    **others: Any,
) -> Context:
    """Build a context with Label Studio at LABEL_STUDIO_URL and its store in `folder`."""
    settings = Settings(
        label_studio=LabelStudioSettings(url=LABEL_STUDIO_URL, api_key=SecretStr("0" * 40)),
        auth=auth or AuthSettings(),
        storage=StorageSettings(model_dir=folder),
        **others,
    )
    login = (
        (settings.auth.username, settings.auth.password.get_secret_value())
        if settings.auth.username
        else None
    )
    adapters = Adapters(url, login, inspector, settings.cluster.release, in_pod=where is Location.POD)
    return Context(settings, where, url, (5,), adapters, inspector)


@dataclass
class FakeIngress:
    """A Fitloop behind an ingress. Attributes may be changed while it runs."""

    status: int = 0
    """Answer every request with this status, unless 0."""
    location: str = ""
    most: int = 1 << 30
    """Largest body in bytes; larger ones get 413."""
    authorization: str = ""
    """The required Authorization header."""
    secret: str = ""
    """The secret path segment that admits Label Studio's requests."""
    open: frozenset[str] = frozenset()
    """Routes that need no login although they should."""
    is_fitloop: bool = True
    events: int = 0
    refused: int = 0
    asked: list[tuple[str, str]] = field(default_factory=list)
    project: dict[str, Any] = field(default_factory=dict)
    url: str = ""

    def answer(self, method: str, path: str, body: bytes, authorization: str) -> tuple[int, Any]:
        """Return status and JSON."""
        self.asked.append((method, path))
        if self.status or len(body) > self.most:
            return self.status or 413, {}
        if not self.is_fitloop:
            return 200, {"hello": "world"}
        first, _, rest = path[1:].partition("/")
        is_secret = bool(self.secret) and first == self.secret
        route = f"/{rest}" if is_secret else path
        is_admitted = bool(self.authorization) and authorization == self.authorization
        is_free = not (self.authorization or self.secret) or route in self.open or route == "/health"
        if not (is_free or is_admitted or (is_secret and route in LABEL_STUDIO_PATHS)):
            self.refused += path == "/webhook"
            return 401, {}
        return self._known(route, body)

    def _known(self, path: str, body: bytes) -> tuple[int, Any]:
        known: dict[str, tuple[int, Any]] = {
            "/health": (200, {"status": "UP", "model_class": "Fitloop", "version": "1.2.3"}),
            "/setup": (400, {"detail": 'The body needs "project".'}),
            "/": (200, {"model_class": "Fitloop", "projects": []}),
            "/versions": (200, {"versions": []}),
            "/webhook": (200, {"status": "passed over"}),
            "/api/projects/5": (200, self.project),
            "/api/projects": (200, {"projects": [{"id": 5}]}),
        }
        if path == "/predict":
            return 200, {"results": [[]] * len(json.loads(body)["tasks"])}
        return known.get(path, (404, {"detail": "no"}))

    def metrics(self) -> str:
        """Return metrics in Prometheus' text format."""
        return (
            f'fitloop_webhook_events_total{{action="PROJECT_UPDATED",outcome="noted"}} {float(self.events)}\n'
            f'fitloop_refused_requests_total{{route="webhook"}} {float(self.refused)}\n'
        )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    ingress: FakeIngress

    def handle_error(self, *_: Any) -> None:
        """Ignore clients that disconnect."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _answer(self) -> None:
        ingress = self.server.ingress
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/metrics":
            status, data = 200, ingress.metrics().encode()
        else:
            status, actual = ingress.answer(
                self.command, self.path, body, self.headers.get("Authorization", "")
            )
            data = json.dumps(actual).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if ingress.location:
            self.send_header("Location", ingress.location + self.path)
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_HEAD = _answer  # noqa: N815  # http.server's names


@contextmanager
def serve_ingress(ingress: FakeIngress) -> Iterator[FakeIngress]:
    """Serve the ingress at a free port."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.ingress = ingress
    ingress.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True)
    thread.start()
    try:
        yield ingress
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class FakeKube:
    """A namespace in memory."""

    objects: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    listed: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    made: list[dict[str, Any]] = field(default_factory=list)
    refuses: Exception | None = None
    namespace: str = "here"

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        return self.objects.get((kind, name))

    def items(self, kind: str, _: str) -> tuple[list[dict[str, Any]], str]:
        return self.listed.get(kind, []), "1"

    def pods(self, selector: str) -> list[dict[str, Any]]:
        return self.listed.get(selector, self.listed.get("pod", []))

    def create(self, _: str, body: dict[str, Any], **__: Any) -> dict[str, Any]:
        if self.refuses:
            raise self.refuses
        self.made.append(body)
        return body


@dataclass
class FakeInspector:
    """What the doctor asks Kubernetes."""

    kube: FakeKube = field(default_factory=FakeKube)
    date: str = ""
    lacking: set[tuple[str, str]] = field(default_factory=set)
    rows: list[dict[str, Any]] = field(default_factory=list)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    answers: dict[tuple[str, int, str], str] = field(default_factory=dict)
    accounts: set[str] = field(default_factory=set)

    def version(self) -> tuple[str, str]:
        return "v1.36.3", self.date

    def is_allowed(self, verb: str, resource: str, name: str = "", account: str = "") -> bool:
        self.accounts.add(account)
        return (verb, resource) not in self.lacking

    def nodes(self) -> list[dict[str, Any]]:
        return self.rows

    def config_map(self, name: str) -> dict[str, str]:
        return self.maps[name]

    def get_from_pod(self, pod: str, port: int, path: str) -> str:
        return self.answers[pod, port, path]
