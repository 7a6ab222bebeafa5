"""Encoders: encoders/<digest>/ in the bucket, shared by all versions whose heads were trained on their features.

An encoder is immutable and exists once its manifest does. Its files are verified when read. A project's documents never
contain one: a version's manifest names its digest. One that nothing needs is retired by the leader, which deletes it a day
later; a run that needs it meanwhile claims it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from dataclasses import dataclass, replace
from pathlib import Path

from services.core import documents
from services.core.domain import BaseAlias, EncoderManifest, RetiredEncoder
from services.core.errors import CorruptVersion, NotFound, ObjectTooLarge, UnknownFormat, UnreadableDocument
from services.core.immutable import DamagedFile, delete_all, upload_files, verified_path
from services.core.store import ObjectStore

FOLDER = "encoders/"
MANIFEST = "manifest.json"
RETIRED = "retired.json"
"""In the folder of an encoder that is going to be deleted."""


@dataclass(frozen=True, slots=True)
class Encoders:
    """All encoders of a store."""

    store: ObjectStore

    def digests(self) -> list[str]:
        """List the names below encoders/, those of incomplete encoders included."""
        return self.store.folders(FOLDER)

    def manifest(self, digest: str) -> EncoderManifest:
        """Return the encoder's manifest. Raises NotFound if there is none, CorruptVersion if it is broken, UnknownFormat, StoreError."""
        key = f"{_prefix(digest)}{MANIFEST}"
        try:
            return documents.load(EncoderManifest, self.store.read(key), key)
        except (UnknownFormat, NotFound):
            raise
        except (ObjectTooLarge, UnreadableDocument) as error:
            raise CorruptVersion(f"The manifest of encoder {digest[:12]} is broken: train again.") from error

    def exists(self, digest: str) -> bool:
        """Return whether the encoder is complete. Raises StoreError."""
        try:
            self.manifest(digest)
        except (NotFound, CorruptVersion):
            return False
        return True

    def folder(self, manifest: EncoderManifest, names: list[str]) -> Path:
        """Return a local folder with these of the encoder's files, each verified. Raises CorruptVersion, StoreError."""
        paths = [self._path(manifest, name) for name in names]
        return paths[0].parents[names[0].count("/")]

    def publish(self, folder: Path, manifest: EncoderManifest) -> EncoderManifest:
        """Upload all files of `folder`, then the manifest, unless the encoder exists; return its manifest.

        What another process published meanwhile is the same. Raises StoreError; then the encoder does not exist, unless another
        process made it.
        """
        with contextlib.suppress(NotFound, CorruptVersion):
            return self.claim(manifest.digest)
        prefix = _prefix(manifest.digest)
        files = upload_files(self.store, folder, prefix)
        complete = replace(manifest, files=files, created_at=time.time())
        self.store.write(f"{prefix}{MANIFEST}", documents.dump(complete))
        sizes = {entry.key.removeprefix(prefix): entry.size for entry in self.store.entries(prefix)}
        for name in (name for name, entry in files.items() if sizes.get(name) != entry.size):
            self.store.upload(
                folder / name, f"{prefix}{name}"
            )  # the leader was still deleting the one before
        return complete

    def claim(self, digest: str) -> EncoderManifest:
        """Return the manifest of an encoder that a run is going to use, retired or not: it stays. Raises as `manifest` does."""
        self.keep(digest)
        return self.manifest(digest)

    def keep(self, digest: str) -> None:
        """Undo that the encoder was retired, if it was."""
        self.store.delete(f"{_prefix(digest)}{RETIRED}")

    def retire(self, digest: str, at: float) -> None:
        """Note that nothing needs the encoder; its aliases must be deleted by then."""
        self.store.write(f"{_prefix(digest)}{RETIRED}", documents.dump(RetiredEncoder(at)))

    def retired_at(self, digest: str) -> float | None:
        """Return when the encoder was retired; None if it is not, or was claimed since. Raises StoreError."""
        key = f"{_prefix(digest)}{RETIRED}"
        try:
            return documents.load(RetiredEncoder, self.store.read(key), key).at
        except NotFound:
            return None

    def alias(self, base_model: str, max_length: int) -> BaseAlias | None:
        """Return which encoder was made of the base model; None if none was, or that is unreadable. Raises StoreError."""
        key = _alias_key(base_model, max_length)
        try:
            return documents.load(BaseAlias, self.store.read(key), key)
        except (NotFound, ObjectTooLarge, UnreadableDocument):
            return None

    def write_alias(self, alias: BaseAlias) -> None:
        """Store which encoder was made of a base model. Raises StoreError."""
        self.store.write(_alias_key(alias.base_model, alias.max_length), documents.dump(alias))

    def delete(self, digest: str) -> None:
        """Remove the encoder, its manifest first."""
        delete_all(self.store, _prefix(digest))

    def _path(self, manifest: EncoderManifest, name: str) -> Path:
        entry = manifest.files.get(name)
        subject = f"File {name!r} of encoder {manifest.digest[:12]} ({manifest.base_model})"
        if entry is None:
            raise CorruptVersion(f"{subject} is not in its manifest: train again.")
        try:
            return verified_path(self.store, f"{_prefix(manifest.digest)}{name}", entry)
        except DamagedFile as error:
            raise CorruptVersion(
                f"{subject} {error}: restore it from a backup, or delete the encoder and train again."
            ) from error


def _alias_key(base_model: str, max_length: int) -> str:
    name = hashlib.sha256(f"{base_model}\n{max_length}".encode()).hexdigest()[:16]
    return f"{FOLDER}base-{name}.json"


def _prefix(digest: str) -> str:
    return f"{FOLDER}{digest}/"
