"""Versions of the registry, newest first. Blocking: call in a thread."""

from __future__ import annotations

from collections.abc import Iterable

from services.core.domain import Manifest
from services.core.registry import Registry


def manifests(registry: Registry, project_keys: Iterable[str]) -> list[Manifest]:
    """The versions of these projects. Raises StoreError."""
    found = [manifest for key in project_keys for manifest in registry.manifests(key)]
    return sorted(found, key=lambda manifest: (manifest.created_at, manifest.version), reverse=True)
