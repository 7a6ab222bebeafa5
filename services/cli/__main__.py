"""The console script `fitloop`: its commands, and how it ends.

Exit codes: 0, 1 with one sentence on stderr that says what to do, 2 for wrong usage. Heavy imports happen in the commands
that need them, so that `fitloop --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from services import __version__
from services.cli import adapter, admin, bucket, doctor, local
from services.core.errors import FitloopError

app = typer.Typer(
    name="fitloop",
    help="Labels from Label Studio become better text classifiers.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
local.register(app)
adapter.register(app)
admin.register(app)
bucket.register_models(app)
bucket.register_gc(app)
doctor.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fitloop {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and end."),
    ] = False,
) -> None:
    """Labels from Label Studio become better text classifiers."""


def main() -> None:
    """Run the command line; an error that a person can act on is its sentence, without a traceback."""
    try:
        app()
    except FitloopError as error:
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        sys.exit(1)


if __name__ == "__main__":
    main()
