"""The console script `fitloop`: its commands and exit codes.

Exit codes: 0; 1 with an error on stderr that says what to do; 2 for wrong usage. Commands import heavy modules themselves, so
that `fitloop --help` stays fast.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from services import __version__
from services.cli import adapter, admin, bucket, doctor, export, garbage, local, report, suspects
from services.core.errors import FitloopError

app = typer.Typer(
    name="fitloop",
    help="Train text classifiers from Label Studio's labels, and serve their suggestions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
local.register(app)
adapter.register(app)
admin.register(app)
report.register(app)
suspects.register(app)
bucket.register(app)
export.register(app)
garbage.register(app)
doctor.register(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fitloop {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Train text classifiers from Label Studio's labels, and serve their suggestions."""


def main() -> None:
    """Run the command line. Print a FitloopError without a traceback."""
    try:
        app()
    except FitloopError as error:
        typer.secho(str(error), err=True, fg=typer.colors.RED)
        sys.exit(1)


if __name__ == "__main__":
    main()
