"""Projects and their versions: projects/<key>/versions/<version>/ in the bucket.

A version is immutable and exists once its manifest does, which is written last and names every file with its sha256; files
are verified when read.
"""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import structlog

from services.core import documents
from services.core.domain import Manifest, OutOfSample, Project, Report, Serving
from services.core.encoders import Encoders
from services.core.errors import (
    CorruptVersion,
    EncoderDeleted,
    NotFound,
    ObjectTooLarge,
    StoreError,
    UnknownFormat,
)
from services.core.immutable import DamagedFile, delete_all, upload_files, verified_path
from services.core.serving_table import ServingTableFile, load_or_none
from services.core.store import ObjectStore

log = structlog.get_logger()
_Document = TypeVar("_Document")
_VERSION_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")


@dataclass(frozen=True, slots=True)
class Registry:
    """All versions of a store."""

    store: ObjectStore

    def projects(self) -> list[Project]:
        """List every project that was ever connected, without those whose project.json is unreadable or newer."""
        keys = (f"projects/{key}/project.json" for key in self.store.folders("projects/"))
        return [project for key in keys if (project := _readable_or_none(Project, self.store, key))]

    def project(self, project_key: str) -> Project:
        """Return a project. Raises NotFound if its project.json is missing or broken, UnknownFormat, StoreError."""
        key = f"projects/{project_key}/project.json"
        if (project := load_or_none(Project, self.store, key)) is None:
            raise NotFound(f"{key} in {self.store.url} is missing or broken.")
        return project

    def write_project(self, project: Project) -> None:
        """Store what Label Studio's API returned. Raises UnknownFormat rather than overwrite what a newer release stored."""
        key = f"projects/{project.key}/project.json"
        if before := load_or_none(Project, self.store, key):
            project = replace(project, unknown=before.unknown)
        self.store.write(key, documents.dump(project))

    def versions(self, project_key: str) -> list[str]:
        """Return the project's versions, oldest first (by manifest time)."""
        return [manifest.version for manifest in self.manifests(project_key)]

    def stored_bytes(self, project_key: str) -> int:
        """Return the size of everything stored for the project. Raises StoreError."""
        return sum(entry.size for entry in self.store.entries(f"projects/{project_key}/"))

    def manifests(self, project_key: str) -> list[Manifest]:
        """List the manifests of the project's versions, oldest first, without those that are unreadable or newer."""
        return self.all_manifests(project_key)[0]

    def all_manifests(self, project_key: str) -> tuple[list[Manifest], list[str]]:
        """Return the same, and the names of versions whose manifests are unreadable or newer. Raises StoreError."""
        found, unreadable = [], []
        for name in self.version_names(project_key):
            try:
                found.append(self.manifest(project_key, name))
            except NotFound:
                continue  # it is being published or deleted, or was not published
            except (CorruptVersion, UnknownFormat) as error:
                log.error("document_skipped", key=_key(project_key, name, "manifest.json"), reason=str(error))
                unreadable.append(name)
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.version)), unreadable

    def version_names(self, project_key: str) -> list[str]:
        """List names below versions/ alphabetically, those of incomplete versions included."""
        return self.store.folders(f"projects/{project_key}/versions/")

    def manifest(self, project_key: str, version: str) -> Manifest:
        """Return the version's manifest. Raises NotFound if there is no such version, CorruptVersion if it is broken."""
        key = _key(project_key, version, "manifest.json")
        try:
            data = self.store.read(key)
        except ObjectTooLarge as error:
            raise CorruptVersion(str(error)) from error
        try:
            return documents.load(Manifest, data, key)
        except UnknownFormat:
            raise
        except StoreError as error:
            raise CorruptVersion(
                f"The manifest of version {version} is broken: roll back or train again."
            ) from error

    def out_of_sample(self, project_key: str, version: str) -> OutOfSample:
        """Return the version's out-of-sample predictions, verified."""
        path = self.file(project_key, version, "oos.json")
        return documents.load(OutOfSample, path.read_bytes(), f"{version}/oos.json")

    def report(self, project_key: str, version: str) -> Report:
        """Return the version's report, verified."""
        path = self.file(project_key, version, "report.json")
        return documents.load(Report, path.read_bytes(), f"{version}/report.json")

    def file(self, project_key: str, version: str, name: str) -> Path:
        """Return a local path to one of the version's files, its size and sha256 verified. Raises CorruptVersion."""
        return self.verified(self.manifest(project_key, version), name)

    def verified(self, manifest: Manifest, name: str) -> Path:
        """Return a local path to one of the version's files, its size and sha256 verified. Raises CorruptVersion, StoreError."""
        entry = manifest.files.get(name)
        if entry is None:
            raise CorruptVersion(f"Version {manifest.version} has no file {name!r}: train again.")
        key = _key(manifest.project_key, manifest.version, name)
        try:
            return verified_path(self.store, key, entry)
        except DamagedFile as error:
            raise CorruptVersion(
                f"File {name!r} of version {manifest.version} {error}: roll back or train again."
            ) from error

    def folder(self, project_key: str, version: str, prefix: str = "") -> Path:
        """Return a local folder with the version's files whose names begin with `prefix`, each verified."""
        manifest = self.manifest(project_key, version)
        names = [name for name in manifest.files if name.startswith(prefix)]
        if not names:
            raise CorruptVersion(f"Version {version} has no file whose name begins with {prefix!r}.")
        paths = [self.verified(manifest, name) for name in names]
        return paths[0].parents[names[0].count("/")]

    def publish(self, folder: Path, manifest: Manifest) -> Manifest:
        """Copy all files of `folder` into the store, then write the manifest. Remains of an earlier attempt are deleted first.

        Raises StoreError; then the version does not exist, and the copied files are deleted if that is possible. EncoderDeleted,
        which is transient: the run must make its encoder again.
        """
        if not _VERSION_NAME.match(manifest.version):
            raise StoreError(
                f"{manifest.version!r} cannot name a version: use letters, digits, '.', '_' and '-'."
            )
        self.delete(manifest.project_key, manifest.version)
        try:
            files = upload_files(self.store, folder, _key(manifest.project_key, manifest.version, ""))
            complete = replace(manifest, files=files)
            if manifest.encoder and not Encoders(self.store).exists(manifest.encoder):
                raise EncoderDeleted(  # noqa: TRY301  # treated like other errors
                    f"The encoder {manifest.encoder[:12]} of version {manifest.version} was deleted meanwhile."
                )
            key = _key(manifest.project_key, manifest.version, "manifest.json")
            self.store.write(key, documents.dump(complete))
            return complete
        except Exception:  # weights without a manifest are never read, and fill the disk
            with contextlib.suppress(StoreError):
                self.delete(manifest.project_key, manifest.version)
            raise

    def unpublish(self, project_key: str, version: str) -> None:
        """Delete the version's manifest alone: it no longer exists then, and `delete` removes the rest."""
        self.store.delete(_key(project_key, version, "manifest.json"))

    def delete(self, project_key: str, version: str) -> None:
        """Remove the version, its manifest first, so that no incomplete version is ever read."""
        delete_all(self.store, _key(project_key, version, ""))

    def serving(self) -> Serving:
        """Return the newest serving table. Raises UnknownFormat, StoreError as `ServingTableFile.newest` does."""
        return ServingTableFile(self.store).newest()


def _readable_or_none(kind: type[_Document], store: ObjectStore, key: str) -> _Document | None:
    """Return the document; None if it is missing, broken or of a newer release: it concerns its project, not all of them."""
    try:
        return load_or_none(kind, store, key)
    except UnknownFormat as error:
        log.error("document_skipped", key=key, reason=str(error))
        return None


def _key(project_key: str, version: str, name: str) -> str:
    return f"projects/{project_key}/versions/{version}/{name}"
