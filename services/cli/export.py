"""`fitloop export`: a version as a folder of its own, for transformers, sentence-transformers or ONNX Runtime."""

from __future__ import annotations

import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.admin import Project
from services.cli.exporting import DESCRIPTION, Format
from services.core.errors import BadConfig, BadRequest, CorruptVersion, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.cli.exporting import Description, Source
    from services.core.domain import EncoderManifest, Manifest
    from services.core.registry import Registry
    from services.core.store import ObjectStore


def register(app: typer.Typer) -> None:
    app.command()(export)


def export(
    project: Project,
    version: Annotated[str, typer.Argument(help="A version, as listed by `fitloop versions`.")],
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where to write it: a new or an empty folder.")
    ],
    layout: Annotated[
        Format,
        typer.Option(
            "--format",
            help="`auto`: transformers if its classifiers have such a head, else sentence-transformers. `onnx` needs fitloop[trainer].",
        ),
    ] = Format.AUTO,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write into a folder that is not empty; replaces an earlier export."),
    ] = False,
) -> None:
    """Write a version as a self-contained folder, whose answers are those that Fitloop serves in fp32.

    Reads the store of FITLOOP_STORE, else of MODEL_DIR; needs no running adapter. Versions of 0.1.0 can be exported too.
    """
    from services.cli.exporting.layouts import choose_format
    from services.core.registry import Registry

    if not force and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadRequest(f"{str(folder)!r} is not an empty folder: pass another one, or --force.")
    source = read_source(Registry(_store()), project, version)
    chosen = choose_format(source, layout)
    partial = folder.absolute().parent / f".{folder.absolute().name}.partial-{secrets.token_hex(4)}"
    try:
        partial.mkdir(parents=True)
        written = write(partial, source, chosen)
        _move(partial, folder)
    except OSError as error:
        raise BadRequest(f"{str(folder)!r} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    typer.echo(
        f"{folder}: {chosen.value}, {len(written.labels)} labels, {_size(folder) / 1e6:.1f} MB. See README.md there."
    )


def write(folder: Path, source: Source, layout: Format) -> Description:
    """Write the version into an empty folder. Raises BadConfig, EngineError, OSError."""
    from services.cli.exporting import Description, layouts, write_description

    manifest, encoder, temperature = source.manifest, source.encoder, 1.0
    if layout is Format.ONNX:
        write_onnx = _onnx_writer()
        write_onnx(folder, source.folder, source.encoder_folder, manifest, encoder)
    elif encoder is None:
        temperature = layouts.write_whole(folder, source)
    elif layout is Format.TRANSFORMERS:
        layouts.write_classifier(folder, source)
    else:
        layouts.write_modules(folder, source)
    written = Description(
        manifest.project_key,
        manifest.version,
        layout.value,
        manifest.labels,
        manifest.artefact.max_length,
        encoder.pooling.prompt if encoder else "",
        temperature,
        manifest.lineage.base_model,
        manifest.encoder,
        manifest.multi_label,
        layouts.thresholds_of(source),
    )
    write_description(folder, written)
    return written


def _onnx_writer() -> Callable[[Path, Path, Path | None, Manifest, EncoderManifest | None], None]:
    try:
        from services.trainer.publishing.onnx import write_onnx
    except ModuleNotFoundError as error:
        raise BadConfig(
            f"The ONNX export needs {error.name}: run `pip install 'fitloop[trainer]'`."
        ) from error
    return write_onnx


def read_source(registry: Registry, project: int, version: str) -> Source:
    """Find a version, and fetch its files, each verified. Raises BadRequest, CorruptVersion, StoreError."""
    from services.cli.exporting import Source
    from services.core.encoder_listing import missing_encoder
    from services.core.encoders import Encoders
    from services.engine.head import FILE

    manifest = _manifest(registry, project, version)
    key = manifest.project_key
    if not manifest.encoder:
        names = [name for name in manifest.files if not name.startswith("ct2/")]
        paths = [registry.file(key, version, name) for name in names]
        return Source(manifest, paths[0].parents[names[0].count("/")])
    try:
        encoder = Encoders(registry.store).manifest(manifest.encoder)
    except NotFound as error:
        raise CorruptVersion(f"Version {version} needs {missing_encoder(manifest.encoder)}.") from error
    names = [name for name in encoder.files if not name.startswith("ct2/")]
    encoder_folder = Encoders(registry.store).folder(encoder, names)
    return Source(manifest, registry.file(key, version, FILE).parent, encoder, encoder_folder)


def _manifest(registry: Registry, project: int, version: str) -> Manifest:
    keys = [key for key in registry.store.folders("projects/") if key.partition("-")[0] == str(project)]
    for key in reversed(keys):  # the newest project of those that have had the id
        try:
            return registry.manifest(key, version)
        except NotFound:
            continue
    known = [name for key in keys for name in registry.versions(key)]
    listed = f": it has {', '.join(known[-5:])}" if known else ""
    raise BadRequest(f"Project {project} in {registry.store.url} has no version {version[:80]!r}{listed}.")


def _store() -> ObjectStore:
    from services.core.settings import Settings
    from services.core.store import open_store

    settings = Settings.load()
    folder = settings.storage.model_dir.expanduser().resolve()
    return open_store(settings.storage.store or folder.as_uri(), settings.s3, settings.storage)


def _move(partial: Path, folder: Path) -> None:
    """Put the finished export in place; of an earlier export in the folder, first delete the files. Raises OSError."""
    from services.cli.exporting import read_json

    for name in read_json(folder / DESCRIPTION).get("files", ()):
        path = folder / str(name)
        if path.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(path for path in partial.rglob("*") if path.is_file()):
        place = folder / path.relative_to(partial)
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
