"""Manifests in memory: what decisions and the status of one project read again and again."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

from services.core.domain import Manifest
from services.core.encoders import Encoders
from services.core.errors import CorruptVersion, NotFound, StoreError, UnknownFormat
from services.core.registry import Registry

_PAUSE_SECONDS: Final = 60.0
"""Until a manifest is read again that is missing or broken."""
_TRANSIENT_PAUSE_SECONDS: Final = 10.0
"""Until one is that could not be read: a store that does not answer delays the leader for each attempt."""


class Origin(StrEnum):
    """What a version was made from."""

    LABELS = "labels"
    """Or it cannot be known: it is kept as if it were."""
    NAMES = "names"
    """Label names only."""
    LOST = "lost"
    """Its manifest is missing or broken."""
    UNKNOWN = "unknown"
    """Its manifest could not be read just now."""


@dataclass(slots=True)
class ManifestCache:
    """The manifests of one project's versions: each is read once, because versions are immutable."""

    registry: Registry
    project_key: str
    clock: Callable[[], float] = time.time
    _known: dict[str, Manifest] = field(default_factory=dict)
    _failed: dict[str, tuple[StoreError, float]] = field(default_factory=dict)
    """Why a manifest could not be read, and when it is read again."""

    def begin(self, manifests: Iterable[Manifest]) -> None:
        """Continue from these manifests."""
        self._known |= {manifest.version: _without_annotations(manifest) for manifest in manifests}

    def read(self, version: str) -> Manifest:
        """Return the version's manifest without its annotation ids, of which there may be thousands.

        Raises StoreError, for a while the same one without another attempt.
        """
        if version not in self._known:
            error, retry_at = self._failed.pop(version, (None, 0.0))
            if error is not None and self.clock() < retry_at:
                self._failed[version] = error, retry_at
                raise error.with_traceback(None)
            self._known[version] = self._read(version)
        return self._known[version]

    def _read(self, version: str) -> Manifest:
        try:
            return _without_annotations(self.registry.manifest(self.project_key, version))
        except StoreError as error:
            is_lost = isinstance(error, NotFound | CorruptVersion)
            pause = _PAUSE_SECONDS if is_lost else _TRANSIENT_PAUSE_SECONDS
            self._failed[version] = error, self.clock() + pause
            raise

    def read_with_engine(self, version: str) -> Manifest:
        """Return the same; of a head with its encoder's engine, unless that is missing or broken. Reads the encoder's manifest."""
        manifest = self.read(version)
        with contextlib.suppress(NotFound, CorruptVersion, UnknownFormat):
            if manifest.encoder:
                engine = Encoders(self.registry.store).manifest(manifest.encoder).engine
                return replace(manifest, artefact=replace(manifest.artefact, engine=engine))
        return manifest

    def find(self, version: str | None) -> Manifest | None:
        """Return the version's manifest; None if there is no version, or its manifest cannot be read."""
        with contextlib.suppress(StoreError):
            return self.read(version) if version else None
        return None

    def origin(self, version: str) -> Origin:
        """Return what the version was made from."""
        try:
            return Origin.NAMES if self.read(version).is_from_names else Origin.LABELS
        except (NotFound, CorruptVersion):
            return Origin.LOST
        except StoreError as error:  # what lasts, as a newer release's manifest does, is not waited for
            return Origin.UNKNOWN if error.transient else Origin.LABELS

    @property
    def encoders(self) -> frozenset[str]:
        """The encoders of these versions."""
        return frozenset(manifest.encoder for manifest in self._known.values() if manifest.encoder)

    def keep(self, versions: AbstractSet[str]) -> None:
        """Forget all others."""
        for known in (self._known, self._failed):
            for version in known.keys() - versions:
                del known[version]


def _without_annotations(manifest: Manifest) -> Manifest:
    return replace(manifest, lineage=replace(manifest.lineage, annotation_ids=()))
