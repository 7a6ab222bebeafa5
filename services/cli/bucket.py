"""`fitloop gc`: what lies in the store, in megabytes by project, and what of it may go."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.admin import print_table
from services.core.errors import BadConfig, BadRequest

if TYPE_CHECKING:
    from services.adapter.training.retention import StoredProject
    from services.core.store import ObjectStore


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
    from services.adapter.training.retention import remove, survey
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


def _say(holding: StoredProject, verb: str) -> None:
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


_PLACE = "base-models/"

models = typer.Typer(help="Base models in the bucket, for BASELINE_MODEL_NAME.", no_args_is_help=True)


def register_models(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(models, name="models")


@models.command()
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A folder with config.json and model.safetensors.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="s3://bucket/prefix/; without it, base-models/<name>/ in FITLOOP_STORE."
        ),
    ] = None,
) -> None:
    """Copy a pre-trained encoder into the bucket, and print the BASELINE_MODEL_NAME that names it."""
    from services.core.base_models import is_file_of_a_model, missing_in
    from services.core.store import open_store

    if why := missing_in(folder):
        raise BadRequest(f"{str(folder)!r} holds no base model: {why}.")
    store = open_store(to or f"{_store_url().rstrip('/')}/{_PLACE}{_name_of(folder)}/")
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    names = sorted(filter(is_file_of_a_model, names), key=_weights_last)
    _refuse_another(store, names)
    for name in names:
        typer.echo(f"{name}  {(folder / name).stat().st_size / 1e6:.1f} MB", err=True)
        store.upload(folder / name, name)
    typer.echo(f"BASELINE_MODEL_NAME={store.url}/")


@models.command("list")
def list_models() -> None:
    """List the base models in FITLOOP_STORE, each as BASELINE_MODEL_NAME wants it."""
    from services.core.store import open_store

    store = open_store(_store_url())
    sizes = {
        name: sum(entry.size for entry in store.entries(f"{_PLACE}{name}/")) for name in store.folders(_PLACE)
    }
    if not sizes:
        typer.echo(f"No base model is in {store.url}/{_PLACE} yet: `fitloop models push DIR` puts one there.")
        return
    print_table(
        ["model", "megabytes"],
        [[f"{store.url}/{_PLACE}{name}/", f"{size / 1e6:.1f}"] for name, size in sizes.items()],
    )


def _store_url() -> str:
    from services.core.settings import Settings

    url = Settings.load().storage.store
    if not url:
        raise BadConfig(
            "No bucket is named: set FITLOOP_STORE=s3://bucket/prefix/, or say --to s3://bucket/prefix/."
        )
    return url


def _name_of(folder: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-.")
    if not name:
        raise BadRequest(f"{str(folder)!r} has no name to store it by: say --to s3://bucket/prefix/.")
    return name


def _weights_last(name: str) -> tuple[bool, str]:
    """So that a push that was cut off leaves what is refused, and not what is half."""
    return name.endswith(".safetensors"), name


def _refuse_another(store: ObjectStore, names: list[str]) -> None:
    """Another model's files beside these would be read with them."""
    from services.core.base_models import is_file_of_a_model

    others = sorted(set(filter(is_file_of_a_model, store.keys())) - set(names))
    if others:
        raise BadRequest(
            f"{store.url}/ already holds {len(others)} other files of a model (as {others[0]}): delete them, or say "
            "--to another prefix."
        )
