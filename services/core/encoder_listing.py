"""What the bucket has below encoders/, by one listing and a few small objects: each encoder, its size, what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from services.core import documents
from services.core.documents import FORMAT
from services.core.domain import EncoderManifest
from services.core.encoders import FOLDER, MANIFEST, RETIRED, Encoders
from services.core.errors import CorruptVersion, NotFound, StoreError, UnknownFormat
from services.core.store import Entry, ObjectStore


@dataclass(frozen=True, slots=True)
class Alias:
    """encoders/base-<16 hex>.json: which encoder was made of a base model."""

    key: str
    digest: str
    base_model: str
    modified: float


@dataclass(frozen=True, slots=True)
class StoredEncoder:
    """An encoder, complete or not."""

    digest: str
    sizes: Mapping[str, int]
    """Of its files, in bytes, by name."""
    modified: float
    """When the newest of them was written."""
    manifest: EncoderManifest | None = None
    problem: str = ""
    """Why it cannot be loaded, as far as names and sizes tell; "" if it can."""
    retired_at: float | None = None

    @property
    def size(self) -> int:
        """Return the bytes that it takes in the bucket."""
        return sum(self.sizes.values())

    @property
    def name(self) -> str:
        """Return the problem as a sentence for status and doctor."""
        base = f" ({self.manifest.base_model})" if self.manifest else ""
        return f"encoder {self.digest[:12]}{base}"


@dataclass(frozen=True, slots=True)
class EncoderListing:
    """All that is below encoders/."""

    encoders: Mapping[str, StoredEncoder] = field(default_factory=dict)
    """By digest."""
    aliases: tuple[Alias, ...] = ()


def list_encoders(store: ObjectStore, known: EncoderListing | None = None) -> EncoderListing:
    """Read what is below encoders/, without the weights. Raises StoreError if the store does not answer.

    `known`: an earlier listing. Manifests are immutable, so that those of encoders that have not changed are not read again.
    """
    before = known.encoders if known else {}
    folders: dict[str, list[Entry]] = {}
    aliases = []
    for entry in store.entries(FOLDER):
        digest, slash, _ = entry.key.removeprefix(FOLDER).partition("/")
        if slash:
            folders.setdefault(digest, []).append(entry)
        elif alias := _alias(store, entry):
            aliases.append(alias)
    encoders = {
        digest: _stored(store, digest, entries, before.get(digest)) for digest, entries in folders.items()
    }
    return EncoderListing(encoders, tuple(aliases))


def missing_encoder(digest: str) -> str:
    """Return what is wrong with an encoder that is not in the bucket."""
    return f"encoder {digest[:12]} is not in the bucket: restore encoders/{digest}/ from a backup, or train again"


def problem_of(manifest: EncoderManifest, sizes: Mapping[str, int]) -> str:
    """Return what is wrong with an encoder whose files have these sizes; "" if nothing is. Content is verified when it is loaded."""
    wrong = [name for name, entry in manifest.files.items() if sizes.get(name) != entry.size]
    if not wrong:
        return ""
    name = wrong[0]
    what = "is missing" if name not in sizes else f"has {sizes[name]} bytes, not {manifest.files[name].size}"
    return (
        f"encoder {manifest.digest[:12]} is damaged, its file {name!r} {what}: restore encoders/{manifest.digest}/ from a "
        "backup, or delete it and train again"
    )


@dataclass(frozen=True, slots=True)
class _AliasDocument:
    digest: str
    base_model: str = ""
    format: int = FORMAT


def _alias(store: ObjectStore, entry: Entry) -> Alias | None:
    """Return an alias; None for any other object, or one that is gone or unreadable."""
    try:
        found = documents.load(_AliasDocument, store.read(entry.key), entry.key)
    except StoreError as error:
        if error.transient:
            raise
        return None
    return Alias(entry.key, found.digest, found.base_model, entry.modified)


def _stored(
    store: ObjectStore, digest: str, entries: list[Entry], known: StoredEncoder | None
) -> StoredEncoder:
    sizes = {one.key.removeprefix(f"{FOLDER}{digest}/"): one.size for one in entries}
    modified = max((one.modified for one in entries if not one.key.endswith(f"/{RETIRED}")), default=0.0)
    found = StoredEncoder(digest, sizes, modified)
    if RETIRED in sizes:
        found = replace(found, retired_at=_retired_at(store, digest))
    if MANIFEST not in sizes:
        problem = f"encoder {digest[:12]} has no manifest: it is still being published, or publishing was interrupted"
        return replace(found, problem=problem)
    try:
        manifest = known.manifest if known and known.manifest and known.sizes == sizes else None
        manifest = manifest or Encoders(store).manifest(digest)
    except (NotFound, CorruptVersion, UnknownFormat) as error:
        return replace(found, problem=str(error).rstrip("."))
    return replace(found, manifest=manifest, problem=problem_of(manifest, sizes))


def _retired_at(store: ObjectStore, digest: str) -> float | None:
    """Return when the encoder was retired; None if it was claimed meanwhile, or that is unreadable: then it is retired anew."""
    try:
        return Encoders(store).retired_at(digest)
    except StoreError as error:
        if error.transient:
            raise
        return None
