"""`fitloop local`: adapter, models and training on this machine, until Ctrl-C or SIGTERM.

It shuts down in order: no more requests, trainers write a checkpoint, the lock on the data directory is released, exit code 0.
"""

from __future__ import annotations

import gc
import ipaddress
import signal
import socket
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.adapter import build_server, listen

if TYPE_CHECKING:
    from services.adapter.ports import Leadership
    from services.core.settings import Settings

_GRACE_SECONDS = 5
"""For requests in flight at shutdown."""


def register(app: typer.Typer) -> None:
    app.command("local")(local)


def local(
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 picks a free one.")
    ] = 9090,
    host: Annotated[
        str | None,
        typer.Option(
            help="Address to listen on. Default: 127.0.0.1 (this machine only), or 0.0.0.0 (all interfaces) if "
            "BASIC_AUTH_USER and BASIC_AUTH_PASS are set. Label Studio in a container needs 0.0.0.0."
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Data directory. Default: MODEL_DIR, or ./fitloop-data."),
    ] = None,
) -> None:
    """Run everything on this machine: adapter, models and training."""
    from services.core.settings import Settings, StorageSettings
    from services.core.store import check_store, open_store
    from services.core.store.files import FileStore
    from services.core.telemetry import logs, tracing
    from services.embedded.in_process import FileLeadership

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
    leadership.start(lambda: None)  # before anything else touches the folder; raises Locked
    try:
        with closing(listen(host or _default_host(settings), port)) as listener:
            FileStore(folder).sweep(time.time())
            if settings.storage.store:
                check_store(open_store(settings.storage.store, settings.s3, settings.storage), write=True)
            _print_addresses(settings, listener, folder)
            _serve(settings, leadership, listener)
    finally:
        leadership.stop()
        tracing.close()


def _default_host(settings: Settings) -> str:
    """Return all interfaces only if there is a password: anyone who can reach the port can train and promote."""
    return "0.0.0.0" if settings.auth.password.get_secret_value() else "127.0.0.1"  # noqa: S104  # see the docstring


def _check_exposure(settings: Settings, host: str | None) -> None:
    """Refuse to serve other machines without credentials unless that is intended. Raises BadConfig."""
    from services.core.errors import BadConfig

    auth = settings.auth
    if auth.required or not (host is None or _is_this_machine(host)):
        try:
            auth.check_credentials()
        except BadConfig as error:
            raise BadConfig(
                f"{error} Or omit --host to listen on 127.0.0.1, which only this machine can reach."
            ) from error


def _is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower().removesuffix(".") == "localhost"


def _print_addresses(settings: Settings, listener: socket.socket, folder: Path) -> None:
    host, port = listener.getsockname()[:2]
    prefix = f"/{settings.auth.secret_path}" if settings.auth.secret_path else ""
    everywhere = host in {"0.0.0.0", "::"}  # noqa: S104  # compared, not bound
    name = socket.gethostname() if everywhere else host
    store = settings.storage.store
    typer.echo(f"Bucket: {store}" if store else f"Data directory: {folder}")
    typer.echo(
        f"Connect Label Studio (Settings > Model) to http://{'localhost' if everywhere else host}:{port}{prefix}"
    )
    if everywhere:
        typer.echo(f"  from a container or another machine: http://{name}:{port}{prefix}")
    else:
        typer.echo(
            "  Label Studio in a container or on another machine cannot reach this address: see --host in `fitloop local --help`."
        )
    for warning in warnings(settings, open_to_all=everywhere):
        typer.secho(f"Warning: {warning}", err=True, fg=typer.colors.YELLOW)


def warnings(settings: Settings, *, open_to_all: bool) -> list[str]:
    """Return what will not work, or is unsafe, with these settings."""
    from services.core.labelstudio.access import missing_token_message

    found = []
    if not settings.label_studio.api_key.get_secret_value():
        found.append(missing_token_message(settings.label_studio.url))
    if open_to_all and not settings.auth.has_credentials:
        found.append(
            "Anyone who can reach this port can train and promote models: set BASIC_AUTH_USER and BASIC_AUTH_PASS."
        )
    if settings.auth.password.get_secret_value() and not settings.auth.secret_path:
        found.append(
            "Label Studio's webhooks send a password only if the URL contains it: connect http://<user>:<password>@… , or set "
            "FITLOOP_SECRET_PATH and connect the URL with that path. Otherwise new labels are noticed only at the next poll "
            f"(every {settings.trigger.reconcile_seconds:.0f} s)."
        )
    return found


def _serve(settings: Settings, leadership: Leadership, listener: socket.socket) -> None:
    from services.core.http.connections import public_bounds, raise_file_limit
    from services.wiring import build_embedded

    bounds = public_bounds(raise_file_limit())
    parts = build_embedded(settings, leadership)
    server = build_server(parts.app, bounds, _GRACE_SECONDS)

    def shut_down(*_: object) -> None:
        server.should_exit = True

    # uvicorn replaces these handlers while it runs; when it stops, it restores them and raises the signal again
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, shut_down)
    try:
        parts.start()
        gc.collect()
        gc.freeze()  # later collections skip what lives forever, which would block the event loop
        server.run(sockets=[listener])
    finally:
        typer.echo(
            "Shutting down; training resumes from its checkpoint at the next start. Press Ctrl-C again to quit now."
        )
        # harmless: child processes notice, and the store survives crashes
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        parts.stop()
