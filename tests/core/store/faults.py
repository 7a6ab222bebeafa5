"""An S3 server that answers what a test tells it to, over real HTTP: faults that a good server cannot be asked for."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler

from tests.support.http_server import serve_http


@dataclass(frozen=True, slots=True)
class Answer:
    """`promised`: the Content-Length, where it is not the body's; `wait`: held back until the event is set, `longest` seconds."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    promised: int | None = None
    wait: threading.Event | None = None
    longest: float = 10.0


def refusal(code: str, status: int) -> Answer:
    """An error as S3 writes it."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    return Answer(status, body, {"Content-Type": "application/xml", "Retry-After": "120"})


@dataclass
class Faults:
    """The answers to come, of which the last is repeated, and what was asked."""

    answers: list[Answer]
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    endpoint: str = ""

    def next(self) -> Answer:
        """The next answer."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


@contextmanager
def serving(*answers: Answer) -> Iterator[Faults]:
    """The server, within."""
    faults = Faults(list(answers))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            faults.asked.append((self.command, self.path, dict(self.headers)))
            answer = faults.next()
            if answer.wait:
                answer.wait.wait(answer.longest)
            try:
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header(
                    "Content-Length", str(len(answer.body) if answer.promised is None else answer.promised)
                )
                self.end_headers()
                self.wfile.write(answer.body)
            except OSError:
                pass  # the client has gone

        do_PUT = do_DELETE = do_POST = do_GET  # noqa: N815 - the names are http.server's

        def log_message(self, *_: object) -> None:
            pass

    with serve_http(Handler) as faults.endpoint:
        yield faults
