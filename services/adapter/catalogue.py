"""Versions of the registry, newest first. Blocking: call in a thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from services.core.domain import Manifest
from services.core.errors import NotFound
from services.core.registry import Registry


def manifests(registry: Registry, project_keys: Iterable[str]) -> list[Manifest]:
    """The versions of these projects. Raises StoreError."""
    found = []
    for key in project_keys:
        for version in registry.versions(key):
            with contextlib.suppress(NotFound):  # it was deleted meanwhile
                found.append(registry.manifest(key, version))
    return sorted(found, key=lambda manifest: (manifest.created_at, manifest.version), reverse=True)
