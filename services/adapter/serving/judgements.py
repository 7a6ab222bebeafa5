"""What the gate compared each version with, and when it was made: read from manifests once, because versions are immutable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from services.core.domain import Published
from services.core.errors import StoreError
from services.core.registry import Registry


@dataclass(slots=True)
class EvaluationIndex:
    """Of all versions that were asked for."""

    registry: Registry
    _known: dict[tuple[str, str], tuple[str | None, float]] = field(default_factory=dict)

    def compared_with(self, project_key: str, version: str) -> str | None:
        """The version that it was compared with. Raises StoreError, NotFound."""
        return self._comparison(project_key, version)[0]

    def is_newer(self, project_key: str, version: str | None, other: str) -> bool:
        """Whether the version was made after the other one; not where one of them cannot be read."""
        try:
            return (
                version is not None
                and self._comparison(project_key, version)[1] > self._comparison(project_key, other)[1]
            )
        except StoreError:
            return False

    def next_to_decide(self, project_key: str, waiting: Sequence[Published]) -> Published:
        """Which of these (oldest first) is decided on first: the newest, which makes the others superfluous.

        But none before the one that it was compared with.
        """
        names = {one.version for one in waiting}
        free = [
            one for one in waiting if not one.promote or self._compared_with(project_key, one) not in names
        ]
        return (free or waiting)[-1]

    def _compared_with(self, project_key: str, published: Published) -> str | None:
        try:
            return self.compared_with(project_key, published.version)
        except StoreError:  # whoever deals with it finds out
            return None

    def _comparison(self, project_key: str, version: str) -> tuple[str | None, float]:
        name = (project_key, version)
        if name not in self._known:
            manifest = self.registry.manifest(*name)
            self._known[name] = (manifest.gate.compared_with, manifest.created_at)
        return self._known[name]
