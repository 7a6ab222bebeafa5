"""Commands for the store: `fitloop models` for base models."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
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
    encoder: Annotated[
        bool,
        typer.Option(help="Make what runs compute features with, too, so that the first one does not wait."),
    ] = True,
) -> None:
    """Upload a pre-trained encoder to the bucket, and print its BASELINE_MODEL_NAME.

    With PyTorch (fitloop[trainer]) and FITLOOP_STORE set, its int8 form is made here; else the first run makes it.
    """
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
    if encoder:
        _make_encoder(f"{store.url}/")
    typer.echo(f"BASELINE_MODEL_NAME={store.url}/")


def _make_encoder(base_model: str) -> None:
    """Make the encoder in FITLOOP_STORE, as a run would. Raises BadConfig, EngineError, StoreError."""
    from services.core.registry import Registry
    from services.core.settings import Settings
    from services.core.store import open_store

    settings = Settings.load()
    if not settings.storage.store.startswith("s3://") or find_spec("torch") is None:
        typer.echo(
            "The first run will make its encoder: that needs FITLOOP_STORE=s3://… and fitloop[trainer].",
            err=True,
        )
        return
    from services.core.telemetry.logs import configure
    from services.trainer.data.base_model import load_base
    from services.trainer.publishing.base_encoder import open_encoder

    configure(settings.logging, hidden=settings.secrets())  # to stderr: the output is for scripts
    parameters = replace(settings.training.parameters(), base_model=base_model)
    load = partial(load_base, base_model, parameters.max_length, parameters.method)
    made = open_encoder(Registry(open_store(settings.storage.store)), parameters, load)
    typer.echo(f"encoder {made.digest[:12]}, {made.manifest.engine}: {made.manifest.engine_reason}", err=True)


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
