"""Commands for the store: `fitloop models` for base models."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.admin import print_table
from services.core.errors import BadConfig, BadRequest

if TYPE_CHECKING:
    from services.core.store import ObjectStore

_BASE_MODELS = "base-models/"
models = typer.Typer(help="Base models in the bucket, for BASELINE_MODEL_NAME.", no_args_is_help=True)


def register(app: typer.Typer) -> None:
    app.add_typer(models, name="models")


@models.command()
def push(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with config.json and model.safetensors.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="s3://bucket/prefix/. Default: base-models/<name>/ in FITLOOP_STORE."
        ),
    ] = None,
) -> None:
    """Upload a pre-trained encoder to the bucket, and print its BASELINE_MODEL_NAME."""
    from services.core.base_models import is_file_of_a_model, missing_in
    from services.core.store import open_store

    if why := missing_in(folder):
        raise BadRequest(f"{str(folder)!r} is not a base model: {why}.")
    store = open_store(to or f"{_store_url().rstrip('/')}/{_BASE_MODELS}{_name_of(folder)}/")
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    names = sorted(filter(is_file_of_a_model, names), key=_weights_last)
    _refuse_other_models(store, names)
    for name in names:
        typer.echo(f"{name}  {(folder / name).stat().st_size / 1e6:.1f} MB", err=True)
        store.upload(folder / name, name)
    typer.echo(f"BASELINE_MODEL_NAME={store.url}/")


@models.command("list")
def list_models() -> None:
    """List the base models in FITLOOP_STORE, by their BASELINE_MODEL_NAME."""
    from services.core.store import open_store

    store = open_store(_store_url())
    sizes = {
        name: sum(entry.size for entry in store.entries(f"{_BASE_MODELS}{name}/"))
        for name in store.folders(_BASE_MODELS)
    }
    if not sizes:
        typer.echo(
            f"There is no base model in {store.url}/{_BASE_MODELS} yet. Upload one with `fitloop models push DIR`."
        )
        return
    print_table(
        ["model", "megabytes"],
        [[f"{store.url}/{_BASE_MODELS}{name}/", f"{size / 1e6:.1f}"] for name, size in sizes.items()],
    )


def _store_url() -> str:
    from services.core.settings import Settings

    url = Settings.load().storage.store
    if not url:
        raise BadConfig(
            "No bucket is configured: set FITLOOP_STORE=s3://bucket/prefix/, or pass --to s3://bucket/prefix/."
        )
    return url


def _name_of(folder: Path) -> str:
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", folder.resolve().name).strip("-.")
    if not name:
        raise BadRequest(f"{str(folder)!r} has no usable name: pass --to s3://bucket/prefix/.")
    return name


def _weights_last(name: str) -> tuple[bool, str]:
    """Sort weights last, so that an interrupted push leaves a model that is refused."""
    return name.endswith(".safetensors"), name


def _refuse_other_models(store: ObjectStore, names: list[str]) -> None:
    """Refuse a folder with files of another model, since they would be read together. Raises BadRequest."""
    from services.core.base_models import is_file_of_a_model

    others = sorted(set(filter(is_file_of_a_model, store.keys())) - set(names))
    if others:
        raise BadRequest(
            f"{store.url}/ already has {len(others)} other model files (such as {others[0]}): delete them, or pass another "
            "prefix with --to."
        )
