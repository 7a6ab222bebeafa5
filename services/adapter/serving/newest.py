"""What the gate decided of a project's newest version, from the bucket: it outlives the process that made it known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.adapter.state.board import LatestDecision
from services.adapter.training.runs import RunRecord
from services.core.errors import CorruptVersion, NotFound, StoreError, UnknownFormat
from services.core.labels.uncounted import truncation_sentence
from services.core.registry import Registry


@dataclass(slots=True)
class LatestDecisionReader:
    """Of one project; each manifest is read once."""

    registry: Registry
    _version: str = ""
    _decision: LatestDecision | None = None

    def read(self, project_key: str, records: Sequence[RunRecord]) -> LatestDecision | None:
        """Of what the runs published last; None where that is nothing, is gone, or cannot be read."""
        version = latest_published_version(records)
        if version != self._version:
            try:
                self._decision = self._read(project_key, version) if version else None
            except StoreError:
                return None  # it is read again the next time
            self._version = version
        return self._decision

    def _read(self, project_key: str, version: str) -> LatestDecision | None:
        try:
            manifest = self.registry.manifest(project_key, version)
        except (NotFound, CorruptVersion, UnknownFormat):
            return None
        cut = truncation_sentence(manifest.truncation)
        return LatestDecision(manifest.gate.promote, manifest.gate.kind, manifest.created_at, cut)


def latest_published_version(records: Sequence[RunRecord]) -> str:
    """The version that was published last; "" for none. `records` are oldest first."""
    published = (record.status.published for record in reversed(records) if record.status)
    return next((found[-1].version for found in published if found), "")
