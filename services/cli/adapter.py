"""`fitloop adapter`: one replica of the adapter on a cluster. Port 9090 serves Label Studio and users, 9091 probes and metrics.

On SIGTERM it releases the lease, so that another replica leads at once, finishes its requests, and exits with 0.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.core.errors import BadConfig

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from services.core.http.connections import Bounds

_ALL_INTERFACES = "0.0.0.0"  # noqa: S104  # a pod's port
_PROXIES = (
    "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,127.0.0.0/8,fc00::/7,fe80::/10,::1"
)
"""Addresses whose X-Forwarded-* headers are trusted, unless uvicorn's FORWARDED_ALLOW_IPS is set."""
_GRACE_SECONDS = 20
"""For requests in flight at shutdown."""


def register(app: typer.Typer) -> None:
    app.command("adapter")(adapter)


def adapter(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for Label Studio and users.")] = 9090,
    management_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port for probes and metrics.")
    ] = 9091,
) -> None:
    """Run the adapter (configured by environment variables)."""
    from services.adapter.app import create_management_app
    from services.core.http.connections import MANAGEMENT_BOUNDS, public_bounds, raise_file_limit
    from services.core.settings import Settings
    from services.core.settings.contradictions import check_contradictions
    from services.core.telemetry import logs, tracing
    from services.wiring import build_cluster

    settings = Settings.load()
    try:
        settings.auth.check_credentials()
        check_contradictions(settings)
    except BadConfig as error:  # its own exit code distinguishes it from errors that are worth a retry
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        raise typer.Exit(error.exit_code) from error
    files = raise_file_limit()
    logs.configure(settings.logging, hidden=settings.secrets())
    logs.log_uncaught()
    tracing.configure(settings.tracing, "adapter")
    sockets = [listen(_ALL_INTERFACES, port), listen(_ALL_INTERFACES, management_port, "--management-port")]
    parts = build_cluster(settings)
    options = {
        "forwarded_allow_ips": os.environ.get("FORWARDED_ALLOW_IPS", _PROXIES),
        "timeout_keep_alive": 75,  # longer than an ingress's, so that it never sends into a closing connection
    }
    servers = [
        build_server(parts.app, public_bounds(files), _GRACE_SECONDS, **options),
        build_server(create_management_app(parts.board), MANAGEMENT_BOUNDS, _GRACE_SECONDS, **options),
    ]
    resigning = threading.Thread(target=parts.resign, name="resign")

    def shut_down(*_: object) -> None:
        if not servers[0].should_exit:
            resigning.start()
        _stop(servers)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, shut_down)
    parts.start()
    gc.collect()
    gc.freeze()  # later collections skip what lives forever, which would block the event loop
    try:
        asyncio.run(_serve(servers, sockets))
    finally:
        parts.stop()
        tracing.close()


def build_server(app: Starlette, bounds: Bounds, grace_seconds: int, **options: Any) -> uvicorn.Server:
    import uvicorn

    from services.core.http.connections import bounded_protocol

    config = uvicorn.Config(
        app,
        http=bounded_protocol(bounds),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=grace_seconds,
        **options,
    )
    return uvicorn.Server(config)


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """Bind a socket to the port, or to a free one if it is 0. Raises BadConfig."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadConfig(
            f"{host!r} is not an address of this machine ({error.strerror or error}): try --host 127.0.0.1."
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise BadConfig(
            f"Port {port} on {host} cannot be used ({error.strerror}): stop the process that uses it, or choose another "
            f"port with {option} {min(port + 1, 65535)}."
        ) from error
    return listener


async def _serve(servers: list[uvicorn.Server], sockets: list[socket.socket]) -> None:
    """Run the servers until all have stopped. When one stops, the others follow."""

    async def run(server: uvicorn.Server, listener: socket.socket) -> None:
        try:
            await server._serve([listener])  # noqa: SLF001  # `serve` would install signal handlers, once per server
        finally:
            _stop(servers)

    await asyncio.gather(*(run(server, listener) for server, listener in zip(servers, sockets, strict=True)))


def _stop(servers: list[uvicorn.Server]) -> None:
    for server in servers:
        server.should_exit = True
