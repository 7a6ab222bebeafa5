"""`fitloop gc`: what lies in the store, in megabytes by project, and what of it may go."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.adapter.training.leftovers import Holding


def register_gc(app: typer.Typer) -> None:
    """Register the command."""
    app.command("gc")(collect)


def collect(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
) -> None:
    """Delete what nobody needs: old versions and runs, checkpoints of ended runs, what cut off runs have left.

    The adapter does the same after each run for the projects that it serves; nothing that is served, was served last, or
    is younger than the settings say ever goes.
    """
    from services.adapter.training.leftovers import remove, survey
    from services.core.settings import Settings
    from services.core.store import open_store

    settings = Settings.load()
    store = open_store(
        settings.storage.store or settings.storage.model_dir.absolute().as_uri(),
        settings.s3,
        settings.storage,
    )
    holdings = survey(store, settings.storage, time.time())
    for holding in holdings:
        _say(holding, "would go" if dry_run else "goes")
        for leftover in () if dry_run else holding.leftovers:
            remove(store, leftover)
    freed = sum(leftover.size for holding in holdings for leftover in holding.leftovers)
    typer.echo(f"{store.url}: {_mb(freed)} {'would be freed' if dry_run else 'freed'}.")


def _say(holding: Holding, verb: str) -> None:
    typer.echo(
        f"project {holding.project} {holding.title!r}: versions {_mb(holding.versions)}, runs {_mb(holding.runs)}"
    )
    if holding.orphaned:
        typer.echo(
            f"  is left to you: {holding.orphaned}. Delete projects/{holding.project}/ if nobody misses it."
        )
    for leftover in holding.leftovers:
        typer.echo(f"  {verb}: {leftover.name}, {_mb(leftover.size)} ({leftover.why})")


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
