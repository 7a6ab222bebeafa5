"""A cache of the registry's manifests, reports and outcomes, which never change, and what else is stored of versions.

Blocking: call in a thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final, Generic, TypeVar

from services.adapter.routes.checked_labels import CheckedLabels
from services.adapter.state.documents import ProjectDocuments, VersionOutcome
from services.adapter.state.estimates_file import EstimatesFile
from services.core.domain import EstimateScore, Manifest, Report
from services.core.errors import CorruptVersion, NotFound, UnknownFormat, UnreadableDocument
from services.core.registry import Registry

T = TypeVar("T")
_MAX_MANIFESTS: Final = 4000
_MAX_REPORTS: Final = 64


class LruCache(Generic[T]):
    """The most recently used values, by project key and version. Thread-safe."""

    def __init__(self, read: Callable[[str, str], T], max_size: int) -> None:
        self._read = read
        self._max_size = max_size
        self._found: OrderedDict[tuple[str, str], T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, project_key: str, version: str) -> T:
        """Return the cached value, or read it. Raises what reading raises; nothing is cached then."""
        key = (project_key, version)
        with self._lock:
            if key in self._found:
                self._found.move_to_end(key)
                return self._found[key]
        found = self._read(project_key, version)
        with self._lock:
            self._found[key] = found
            if len(self._found) > self._max_size:
                self._found.popitem(last=False)
        return found


class ProjectCache(Generic[T]):
    """Values by project key and version; beyond the limit, the projects not asked for longest go, never the one being read.

    So going through the versions of one project, in any number, never drops what comes next. Thread-safe.
    """

    def __init__(self, read: Callable[[str, str], T], max_size: int) -> None:
        self._read = read
        self._max_size = max_size
        self._projects: OrderedDict[str, dict[str, T]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, project_key: str, version: str) -> T:
        """Return the cached value, or read it. Raises what reading raises; nothing is cached then."""
        with self._lock:
            known = self._touch(project_key)
            if version in known:
                return known[version]
        found = self._read(project_key, version)
        with self._lock:
            self._touch(project_key)[version] = found
            while len(self._projects) > 1 and self._size() > self._max_size:
                self._projects.popitem(last=False)
        return found

    def retain(self, project_key: str, versions: Collection[str]) -> None:
        """Drop the project's other versions, which no longer exist."""
        with self._lock:
            known = self._touch(project_key)
            for version in known.keys() - set(versions):
                del known[version]

    def _touch(self, project_key: str) -> dict[str, T]:
        known = self._projects.setdefault(project_key, {})
        self._projects.move_to_end(project_key)
        return known

    def _size(self) -> int:
        return sum(map(len, self._projects.values()))


class VersionCache:
    """Manifests are cached without their annotation ids, of which a version may have thousands."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._manifests = ProjectCache(self._manifest, _MAX_MANIFESTS)
        self._reports = LruCache(registry.report, _MAX_REPORTS)
        self._checked = CheckedLabels(registry.store)
        self._outcomes = ProjectCache(self._outcome, _MAX_MANIFESTS)

    def manifests(self, project_key: str) -> list[Manifest]:
        """Return the existing versions of the project, newest first. Raises StoreError."""
        names = self._registry.version_names(project_key)
        self._manifests.retain(project_key, names)
        self._outcomes.retain(project_key, names)
        found = [manifest for name in names if (manifest := self.manifest(project_key, name))]
        return sorted(found, key=lambda manifest: (manifest.created_at, manifest.version), reverse=True)

    def manifest(self, project_key: str, version: str) -> Manifest | None:
        """Return one version; None if it is incomplete, deleted, broken or of a newer release. Raises StoreError."""
        try:
            return self._manifests.get(project_key, version)
        except (NotFound, CorruptVersion, UnknownFormat):
            return None

    def report(self, project_key: str, version: str) -> Report:
        """Return a version's report, without suspect labels that people have checked since. Raises StoreError, CorruptVersion."""
        report = self._reports.get(project_key, version)
        return self._checked.leave_out(project_key, version, report)

    def outcome(self, project_key: str, version: str) -> VersionOutcome | None:
        """Return a version's outcome; None if there is none yet, or it is unreadable. Raises StoreError."""
        try:
            return self._outcomes.get(project_key, version)
        except (NotFound, UnreadableDocument):
            return None

    def estimate_scores(self, project_key: str) -> dict[str, EstimateScore]:
        """Return how the expected accuracy of versions compares with later annotations, as stored now. Raises StoreError."""
        try:
            found = EstimatesFile(self._registry.store, project_key).read()
        except UnknownFormat:
            return {}
        return {score.version: score for score in found.scores}

    def _manifest(self, project_key: str, version: str) -> Manifest:
        found = self._registry.manifest(project_key, version)
        return replace(found, lineage=replace(found.lineage, annotation_ids=()))

    def _outcome(self, project_key: str, version: str) -> VersionOutcome:
        found = ProjectDocuments(self._registry.store, project_key).outcome(version)
        if found is None:
            raise NotFound(f"There is no outcome of {version} yet.")
        return found
