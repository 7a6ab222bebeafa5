"""Secrets placed wherever they might reach a log, a Label Studio that holds them, and a server that echoes them.

`HOOK` is a sitecustomize.py that makes every library log at DEBUG.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from tests.support.http_server import serve_http
from tests.support.labelstudio import FakeLabelStudio

TEXT: Final = "zitronenbaum"
"""A word in every text."""
TOKEN: Final = "marked-token-8c1f07"
PASSWORD: Final = "marked-password-77aa"
KEY: Final = "marked-access-key-1b2c"
PATH: Final = "marked-secret-path-44"
PERSON: Final = "marked-persons-token-90"
"""The token of the user who opens a task: Label Studio's /setup contains it."""
SECRETS: Final = (TEXT, TOKEN, PASSWORD, KEY, PATH, PERSON)

LIBRARIES: Final = (
    "asyncio",
    "botocore",
    "httpcore",
    "httpx",
    "kserve",
    "kubernetes",
    "kubernetes.client.rest",
    "label_studio_sdk",
    "minio",
    "transformers",
    "urllib3",
    "uvicorn",
    "uvicorn.access",
    "uvicorn.error",
)
HOOK: Final = f"import logging\nfor name in {LIBRARIES!r}: logging.getLogger(name).setLevel('DEBUG')\n"


def find_leaks(written: str) -> list[str]:
    """Return lines that contain a secret."""
    return [line for line in written.splitlines() if any(secret in line.lower() for secret in SECRETS)]


class _Handler(BaseHTTPRequestHandler):
    def _send(self, status: int, body: object) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class's name
        """Log nothing."""


@contextmanager
def serve_label_studio(label_studio: FakeLabelStudio) -> Iterator[str]:
    """Serve project 1 of a Label Studio to clients with TOKEN, and yield its address."""

    class Handler(_Handler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(address.query).items()}
            if self.headers["Authorization"] != f"Token {TOKEN}":
                self._send(401, {"detail": TEXT})
            elif address.path == "/api/projects/1/":
                project, counts = label_studio.project(1)
                given = {"id": 1, "title": project.title, "label_config": project.label_config}
                made = {"created_at": project.created_at, "task_number": counts.tasks}
                labels = {
                    "num_tasks_with_annotations": counts.annotated_tasks,
                    "total_annotations_number": counts.annotations,
                }
                self._send(200, given | made | labels)
            elif address.path == "/api/tasks/":
                rows = self._tasks(json.loads(query["query"])["filters"]["items"])
                self._send(200, {"tasks": rows[: int(query["page_size"])], "total": len(rows)})
            else:
                self._send(200, [])

        def do_POST(self) -> None:
            self._body()
            self._send(201, {})

        def _tasks(self, filters: list[dict[str, Any]]) -> list[dict[str, Any]]:
            after = max(
                (int(one["value"]) for one in filters if one["filter"] == "filter:tasks:id"), default=0
            )
            unlabelled = any(one["operator"] == "equal" for one in filters)
            if not unlabelled:
                return [row for row in label_studio.annotated_tasks(1) if row["id"] > after]
            numbers = sorted(number for page in label_studio.unlabelled_ids(1) for number in page)
            return label_studio.unlabelled_tasks(1, [number for number in numbers if number > after])

    with serve_http(Handler) as url:
        yield url


@contextmanager
def serve_echo(status: int) -> Iterator[str]:
    """Serve answers that echo the whole request, and yield the address."""

    class Handler(_Handler):
        def _repeat(self) -> None:
            told = f"{self.headers} {self._body()!r}"
            self._send(status, {"error": told, "detail": told, "message": told, "reason": told})

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _repeat  # noqa: N815 - http.server's names

    with serve_http(Handler) as url:
        yield url
