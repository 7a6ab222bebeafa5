"""`fitloop adapter`: an adapter's pod on a cluster. Port 9090 for Label Studio and people, 9091 for probes and Prometheus.

At SIGTERM it gives the lead back, so that another adapter has it at once, lets requests end, and ends with 0.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import threading
from typing import TYPE_CHECKING, Annotated

import typer

from services.core.errors import BadConfig

if TYPE_CHECKING:
    import uvicorn
    from starlette.applications import Starlette

    from services.core.http.connections import Bounds


def listen(host: str, port: int, option: str = "--port") -> socket.socket:
    """A socket at the port; 0 takes a free one. Raises BadConfig."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise BadConfig(
            f"{host!r} is no address of this machine ({error.strerror or error}): try --host 127.0.0.1."
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise BadConfig(
            f"Port {port} of {host} cannot be used ({error.strerror}): stop what listens there, or choose another "
            f"one with {option} {min(port + 1, 65535)}."
        ) from error
    return listener


_EVERYWHERE = "0.0.0.0"  # noqa: S104  # a pod's port

_PROXIES = (
    "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,169.254.0.0/16,127.0.0.0/8,fc00::/7,fe80::/10,::1"
)
"""Who may say by X-Forwarded-* for whom and by which scheme an ingress called; uvicorn's FORWARDED_ALLOW_IPS names others."""

_GRACE_SECONDS = 20
"""For requests that are being answered at the end."""


def register(app: typer.Typer) -> None:
    """Register the command."""
    app.command("adapter")(adapter)


def adapter(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port for Label Studio and people.")] = 9090,
    management_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of probes and metrics.")
    ] = 9091,
) -> None:
    """Answer Label Studio from a pod of the chart; it is told everything by its environment."""
    from services.adapter.app import create_management_app
    from services.core.errors import BadConfig
    from services.core.http.connections import MANAGEMENT_BOUNDS, public_bounds, raise_file_limit
    from services.core.settings import Settings
    from services.core.telemetry import logs, tracing
    from services.wiring import cluster

    settings = Settings.load()
    try:
        settings.auth.check_credentials()
    except BadConfig as error:  # an exit of its own, by which it is known from one that may be tried again
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        raise typer.Exit(error.exit_code) from error
    files = raise_file_limit()
    logs.configure(settings.logging, hidden=settings.secrets())
    logs.log_uncaught()
    tracing.configure(settings.tracing, "adapter")
    sockets = [listen(_EVERYWHERE, port), listen(_EVERYWHERE, management_port, "--management-port")]
    parts = cluster(settings)
    servers = [
        _server(parts.app, public_bounds(files)),
        _server(create_management_app(parts.board), MANAGEMENT_BOUNDS),
    ]
    resigning = threading.Thread(target=parts.resign, name="resign")

    def end(*_: object) -> None:
        if not servers[0].should_exit:
            resigning.start()
        _end(servers)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    parts.start()
    gc.collect()
    gc.freeze()  # what stands for good is not looked through again, which would hold the event loop each time
    try:
        asyncio.run(_serve(servers, sockets))
    finally:
        parts.stop()
        tracing.close()


def _server(app: Starlette, bounds: Bounds) -> uvicorn.Server:
    import uvicorn

    from services.core.http.connections import bounded_protocol

    config = uvicorn.Config(
        app,
        http=bounded_protocol(bounds),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=os.environ.get("FORWARDED_ALLOW_IPS", _PROXIES),
        timeout_graceful_shutdown=_GRACE_SECONDS,
        timeout_keep_alive=75,  # longer than an ingress keeps its own, so that it never sends into a closing connection
    )
    return uvicorn.Server(config)


async def _serve(servers: list[uvicorn.Server], sockets: list[socket.socket]) -> None:
    """Until all have ended; the first one's end is everybody's."""
    pairs = zip(servers, sockets, strict=True)
    await asyncio.gather(*(_until_the_end(server, listener, servers) for server, listener in pairs))


async def _until_the_end(
    server: uvicorn.Server, listener: socket.socket, servers: list[uvicorn.Server]
) -> None:
    try:
        await server._serve([listener])  # noqa: SLF001  # `serve` would take the signals, once for each server
    finally:
        _end(servers)


def _end(servers: list[uvicorn.Server]) -> None:
    for server in servers:
        server.should_exit = True
