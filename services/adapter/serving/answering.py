"""Which served versions were made for another control than the one that is learnt: they have nothing to say until a run makes one.

A version's manifest names its control. One of release 0.1.0 names none: it counts as another's where it has no label of
what is learnt.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.core.domain import LabelSpace, Served
from services.core.errors import StoreError
from services.core.registry import Registry


@dataclass(slots=True)
class ControlCheck:
    """Looks at the manifests of one project's served versions."""

    registry: Registry
    _known: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    """By version: its control and its labels."""

    def foreign_versions(self, project_key: str, space: LabelSpace | None, served: Served) -> tuple[str, ...]:
        """Of the versions that people may be told of, those that answer another control."""
        versions = tuple(filter(None, (served.current, served.previous)))
        for gone in self._known.keys() - set(versions):
            del self._known[gone]
        return tuple(
            version for version in versions if space and self._is_foreign(project_key, space, version)
        )

    def _is_foreign(self, project_key: str, space: LabelSpace, version: str) -> bool:
        if version not in self._known:
            try:
                manifest = self.registry.manifest(project_key, version)
            except StoreError:
                return False  # a version that cannot be read answers nothing, and that is said elsewhere
            self._known[version] = (manifest.from_name, manifest.labels)
        control, labels = self._known[version]
        return control != space.from_name if control else not set(labels) & set(space.labels)


def no_suggestions_reason(served: Served, space: LabelSpace | None, foreign: tuple[str, ...]) -> str:
    """Why there are no suggestions of what is served; "" where there are."""
    if space is None or served.current not in foreign:
        return ""
    return (
        f"{served.current} was made for another control than {space.from_name!r}, which is learnt now: there are no "
        "suggestions until a version of it is promoted."
    )
