"""Connections: half-open ones, slow bodies and slow readers are closed, and a new client is heard among any number of them."""

from __future__ import annotations

import contextlib
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.core.http.connections import Bounds, bounded_protocol, public_bounds, raise_file_limit
from tests.support.waiting import eventually

SHORT = Bounds(head_seconds=0.3, rate_window_seconds=0.3, bytes_per_second=100_000)
PATIENT = Bounds(head_seconds=60, rate_window_seconds=60)
LARGE = 32 << 20
HALF = b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: "
WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
ASKED = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"


async def _echo(request: Request) -> Response:
    return PlainTextResponse(f"{len(await request.body())}")


async def _refuse(_: Request) -> Response:
    return PlainTextResponse("no", 413)


async def _much(_: Request) -> Response:
    return Response(b"x" * LARGE)


@contextlib.contextmanager
def serving(bounds: Bounds) -> Iterator[tuple[int, uvicorn.Server]]:
    """The port of a server with these bounds."""
    routes = [
        Route("/", _echo, methods=["GET", "POST"]),
        Route("/refused", _refuse, methods=["POST"]),
        Route("/much", _much),
    ]
    config = uvicorn.Config(
        Starlette(routes=routes), http=bounded_protocol(bounds), ws="none", log_config=None, lifespan="off"
    )
    server, listener = uvicorn.Server(config), socket.create_server(("127.0.0.1", 0), backlog=2048)
    thread = threading.Thread(target=server.run, args=([listener],))
    thread.start()
    eventually(lambda: server.started, every=0.01)
    try:
        yield listener.getsockname()[1], server
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextlib.contextmanager
def connected(port: int, *, receives: int = 0) -> Iterator[socket.socket]:
    with socket.socket() as client:
        if receives:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receives)
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        yield client


def until_closed(client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = []
    with contextlib.suppress(ConnectionError):
        while chunk := client.recv(1 << 20):
            found.append(chunk)
    return b"".join(found)


def answer(client: socket.socket) -> bytes:
    client.sendall(WHOLE)
    return client.recv(1 << 16)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"", b""),
        (b"G", b"HTTP/1.1 408 "),
        (HALF, b"HTTP/1.1 408 "),
        (b"\r\n\r\n", b"HTTP/1.1 408 "),
        (WHOLE + HALF, b"HTTP/1.1 200 "),
    ],
    ids=["nothing", "one byte", "half a head", "blank lines", "half a second head"],
)
def test_a_head_that_does_not_come_closes_the_connection(sent: bytes, status: bytes) -> None:
    with serving(SHORT) as (port, _), connected(port) as client:
        client.sendall(sent)
        found = until_closed(client)
    assert found.startswith(status)
    assert bool(found) == bool(status)


def test_a_head_without_end_is_refused() -> None:
    with serving(PATIENT) as (port, _), connected(port) as client, contextlib.suppress(ConnectionError):
        client.sendall(HALF)
        for _ in range(100):
            client.sendall(b"x" * 4096)
        assert until_closed(client).startswith(b"HTTP/1.1 431 ")


def test_a_slow_body_is_refused() -> None:
    with serving(SHORT) as (port, server), connected(port) as client:
        client.sendall(ASKED + b"x" * 1000)
        assert until_closed(client).startswith(b"HTTP/1.1 408 ")
        eventually(lambda: not server.server_state.tasks, every=0.01)


def test_each_body_has_a_rate_window_of_its_own() -> None:
    """Head and body come apart, as a proxy sends them; the first request's window ends while the second body is waited for."""
    with serving(replace(PATIENT, rate_window_seconds=4.0)) as (port, _), connected(port) as client:
        client.sendall(ASKED)
        client.sendall(b"x" * 1_000_000)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        select.select([client], [], [], 2.0)
        client.sendall(ASKED)
        refused, _, _ = select.select([client], [], [], 2.5)
        assert not refused
        client.sendall(b"x" * 1_000_000)
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")


def test_a_body_has_a_total_time_limit() -> None:
    with serving(replace(SHORT, body_seconds=0.0)) as (port, _), connected(port) as client:
        client.sendall(ASKED + b"x" * 500_000)
        assert until_closed(client).startswith(b"HTTP/1.1 408 ")


def test_a_body_after_its_answer_closes_the_connection() -> None:
    with serving(SHORT) as (port, _), connected(port) as client:
        client.sendall(ASKED.replace(b" / ", b" /refused ") + b"x" * 1000)
        assert until_closed(client).startswith(b"HTTP/1.1 413 ")


def test_an_unread_answer_closes_the_connection() -> None:
    with serving(SHORT) as (port, server), connected(port, receives=4096) as client:
        client.sendall(WHOLE.replace(b" / ", b" /much "))
        eventually(lambda: server.server_state.connections, every=0.01)
        eventually(lambda: not server.server_state.connections, every=0.01)
        assert len(until_closed(client)) < LARGE


def test_an_answer_that_is_read_is_complete() -> None:
    with serving(SHORT) as (port, _), connected(port) as client:
        client.sendall(WHOLE.replace(b" / ", b" /much ").replace(b"Host", b"Connection: close\r\nHost"))
        assert len(until_closed(client)) > LARGE


def test_an_active_connection_stays_open() -> None:
    with serving(PATIENT) as (port, _), connected(port) as client:
        client.sendall(ASKED + b"x" * 1_000_000)
        assert client.recv(1 << 16).endswith(b"1000000")
        assert [answer(client).endswith(b"0") for _ in range(3)] == [True] * 3


def test_a_new_client_is_served_beside_too_many_idle_ones() -> None:
    with serving(replace(PATIENT, connections=8)) as (port, server), contextlib.ExitStack() as stack:
        half = [stack.enter_context(connected(port)) for _ in range(30)]
        for client in half:
            with contextlib.suppress(ConnectionError):
                client.sendall(HALF)
        assert answer(stack.enter_context(connected(port))).startswith(b"HTTP/1.1 200 ")
        eventually(lambda: len(server.server_state.connections) <= 8, every=0.01)
        assert until_closed(half[0]) == b""


@pytest.fixture
def limits() -> Iterator[Callable[[int], None]]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda soft: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_the_file_limit_is_raised_with_a_reserve(limits: Callable[[int], None]) -> None:
    limits(1024)
    assert raise_file_limit(1500) == 1500
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 1500
    assert raise_file_limit(1200) == 1500
    assert [public_bounds(files).connections for files in (256, 1024, 1_000_000)] == [64, 768, 4096]
