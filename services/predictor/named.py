"""The versions that the serving table names, and versions by project as /state reports them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from services.core.domain import Serving
from services.engine.compute import VersionKey

VersionsByProject = dict[str, frozenset[str]]
"""Versions by project key."""


def named_versions(table: Serving) -> VersionsByProject:
    """Return every version that the table names, as current, previous or target."""
    return {
        key: frozenset(filter(None, (served.current, served.previous, served.target)))
        for key, served in table.projects.items()
    }


def targets(table: Serving) -> list[VersionKey]:
    """Return the versions being rolled out."""
    return [VersionKey(key, served.target) for key, served in table.projects.items() if served.target]


def currents(table: Serving) -> list[VersionKey]:
    """Return the current versions, the newest first."""
    newest = sorted(table.projects.items(), key=lambda item: item[1].since, reverse=True)
    return [VersionKey(key, served.current) for key, served in newest if served.current]


def reasons_by_project(reasons: Mapping[VersionKey, str]) -> dict[str, dict[str, str]]:
    """Return reasons by project key and version."""
    found: dict[str, dict[str, str]] = {}
    for (project_key, version), reason in reasons.items():
        found.setdefault(project_key, {})[version] = reason
    return found
