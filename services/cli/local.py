"""`fitloop local`: the adapter, the models and the trainers on this machine, until Ctrl-C or SIGTERM.

Its end is in order: no more requests, trainers told to keep what they have, the folder's lock given back, exit code 0.
"""

from __future__ import annotations

import ipaddress
import signal
import socket
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.adapter import listen

if TYPE_CHECKING:
    import uvicorn

    from services.adapter.ports import Leadership
    from services.core.settings import Settings

_GRACE_SECONDS = 5
"""Seconds that requests which are being answered get at the end."""


def register(app: typer.Typer) -> None:
    """Register the command."""
    app.command("local")(local)


def local(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 9090,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Default: 127.0.0.1 (this machine alone), and 0.0.0.0 (all of its networks) once "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS are set. A Label Studio in a container needs the latter."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Folder of everything that it knows. Default: MODEL_DIR, or ./fitloop-data."),
    ] = None,
) -> None:
    """Run the whole loop on this machine."""
    from services.core.settings import Settings, StorageSettings
    from services.core.store import check_store, open_store
    from services.core.store.files import FileStore
    from services.core.telemetry import logs, tracing
    from services.embedded.leadership import FileLeadership

    settings = Settings.load()
    if data is not None:
        storage = settings.storage.model_copy(update={"model_dir": data})
        settings = replace(settings, storage=StorageSettings.model_validate(storage.model_dump()))
    _check_exposure(settings, host)
    logs.configure(settings.logging, hidden=settings.secrets())
    logs.log_uncaught()
    tracing.configure(settings.tracing, "local")
    folder = settings.storage.model_dir.expanduser().resolve()
    leadership = FileLeadership(folder)
    leadership.start(lambda: None)  # before anything else is done with the folder; raises Locked
    try:
        with closing(listen(host or _default_host(settings), port)) as listener:
            FileStore(folder).sweep(time.time())
            if settings.storage.store:
                check_store(open_store(settings.storage.store, settings.s3, settings.storage), write=True)
            _say_hello(settings, listener, settings.storage.store or str(folder))
            _serve(settings, leadership, listener)
    finally:
        leadership.stop()
        tracing.close()


def _default_host(settings: Settings) -> str:
    """All networks only where a password is asked for: whoever reaches the port may train and promote."""
    return "0.0.0.0" if settings.auth.password.get_secret_value() else "127.0.0.1"  # noqa: S104  # see the docstring


def _check_exposure(settings: Settings, host: str | None) -> None:
    """Raises BadConfig where others than this machine would be answered without credentials, and nobody said so."""
    from services.core.errors import BadConfig

    auth = settings.auth
    if auth.required or not (host is None or _is_this_machine(host)):
        try:
            auth.check_credentials()
        except BadConfig as error:
            raise BadConfig(f"{error} Or leave --host out: 127.0.0.1 is this machine alone.") from error


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


def _say_hello(settings: Settings, listener: socket.socket, place: str) -> None:
    host, port = listener.getsockname()[:2]
    prefix = f"/{settings.auth.secret_path}" if settings.auth.secret_path else ""
    everywhere = host in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound
    name = socket.gethostname() if everywhere else host
    typer.echo(f"Fitloop keeps everything in {place}")
    typer.echo(
        f"Connect Label Studio (Settings > Model) to http://{'localhost' if everywhere else host}:{port}{prefix}"
    )
    if everywhere:
        typer.echo(f"  from a container or another machine: http://{name}:{port}{prefix}")
    else:
        typer.echo(
            "  A Label Studio in a container or on another machine cannot reach that: see `fitloop local --help`, --host."
        )
    for warning in warnings(settings, open_to_all=everywhere):
        typer.secho(f"Warning: {warning}", err=True, fg=typer.colors.YELLOW)


def warnings(settings: Settings, *, open_to_all: bool) -> list[str]:
    """What will not work, or is not safe, with these settings."""
    from services.core.labelstudio.access import missing_token_message

    found = []
    if not settings.label_studio.api_key.get_secret_value():
        found.append(missing_token_message(settings.label_studio.url))
    if open_to_all and not settings.auth.has_credentials:
        found.append(
            "Everybody who reaches this port may train and promote models: set BASIC_AUTH_USER and BASIC_AUTH_PASS."
        )
    if settings.auth.password.get_secret_value() and not settings.auth.secret_path:
        found.append(
            "Label Studio's webhooks carry a password only where the address does: connect http://<user>:<password>@… , "
            "or set FITLOOP_SECRET_PATH and connect to the address with it. Else labels are noticed at the next look "
            f"({settings.trigger.reconcile_seconds:.0f} s)."
        )
    return found


def _serve(settings: Settings, leadership: Leadership, listener: socket.socket) -> None:
    import uvicorn

    from services.core.http.connections import bounded_protocol, public_bounds, raise_file_limit
    from services.wiring import embedded

    port = bounded_protocol(public_bounds(raise_file_limit()))
    parts = embedded(settings, leadership)
    server = uvicorn.Server(
        uvicorn.Config(
            parts.app,
            http=port,
            ws="none",
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
            server_header=False,
        )
    )
    _end_on_signals(server)
    try:
        parts.start()
        server.run(sockets=[listener])
    finally:
        typer.echo(
            "Ending: trainers keep what they have, and go on at the next start. Ctrl-C again ends at once."
        )
        signal.signal(
            signal.SIGINT, signal.SIG_DFL
        )  # harmless: children notice it, and the store bears any crash
        parts.stop()


def _end_on_signals(server: uvicorn.Server) -> None:
    """Our own handlers, before and after uvicorn's: it raises the signal again once it has ended, and we are not done then."""

    def end(_number: int, _frame: object) -> None:
        server.should_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
