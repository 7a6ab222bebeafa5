"""Retention: old versions, checkpoints of ended runs and old runs are deleted by the leader's sweep.

Never deleted are a version that is served, was served last or is a target, and the run that labels are counted from. The sweep
deals with one project after each of its runs; `fitloop gc` applies the same rules to all that the store holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

import structlog

from services.adapter.state.project_state import EncoderReferences, RunRecord
from services.adapter.training.runs import Swept
from services.adapter.training.unused_features import delete_unused_features
from services.core.domain import Manifest, Project, Served, expired_versions
from services.core.errors import StoreError
from services.core.registry import Registry
from services.core.runs import Runs, run_number
from services.core.settings import StorageSettings

log = structlog.get_logger()
_DAY_SECONDS: Final = 86_400.0


def kept_versions(served: Served) -> frozenset[str]:
    """Return the versions that are served, were served last, or are being rolled out."""
    return frozenset(filter(None, (served.current, served.previous, served.target)))


def _is_expired(record: RunRecord, settings: StorageSettings, now: float) -> bool:
    return now - record.ended_at > settings.keep_runs_days * _DAY_SECONDS


def expired_runs(
    ended: Sequence[RunRecord], baselines: frozenset[str], settings: StorageSettings, now: float
) -> list[RunRecord]:
    """Return the old runs (`ended` is oldest first), except the last one and those that labels may be counted from."""
    return [
        record for record in ended[:-1] if record.run not in baselines and _is_expired(record, settings, now)
    ]


def encoder_references(
    manifests: Iterable[Manifest], unreadable: Iterable[str], read_at: float
) -> EncoderReferences:
    """Return which encoders these versions name. `read_at`: when the reading of their manifests began."""
    versions = {manifest.version: manifest.encoder for manifest in manifests if manifest.encoder}
    return EncoderReferences(read_at, versions, tuple(unreadable))


@dataclass(frozen=True, slots=True)
class Retention:
    """Deletes what has expired of one project."""

    registry: Registry
    settings: StorageSettings

    def sweep(
        self,
        project: Project,
        kept: frozenset[str],
        records: Sequence[RunRecord],
        baselines: frozenset[str],
        swept_run: int,
        base_models: frozenset[str],
        now: float,
    ) -> Swept:
        """Delete runs that have expired, and name such versions, in a worker. Raises StoreError; the next sweep finds what was left.

        `kept`: versions that are served, were served last or are targets. `records`: the remembered runs. `swept_run`: the highest
        number of a run that an earlier sweep has seen. `base_models`: those of its runs now.
        """
        (manifests, unreadable), keep = self.registry.all_manifests(project.key), self.settings
        versions = expired_versions(manifests, kept, keep.keep_versions, keep.keep_days, now)
        ended = [record for record in records if record.outcome is not None]
        last = max((run_number(record.run) for record in ended), default=0)
        unswept = {record.run for record in ended if run_number(record.run) > swept_run}
        if unswept:
            self._delete_checkpoints(project, unswept)
        expired = [record.run for record in expired_runs(ended, baselines, keep, now)]
        for run in [*expired, *self._expired_unremembered(project, records, now)]:
            self.runs.delete(run)
            log.info("run_deleted", run=run, reason=f"older than {keep.keep_runs_days:g} days")
        self._delete_embed_runs(project)
        encoders = encoder_references(manifests, unreadable, now)
        if not unreadable:
            needed = frozenset(encoders.versions.values())
            delete_unused_features(self.registry.store, project, needed, base_models, now)
        size = self.registry.stored_bytes(project.key)
        return Swept(frozenset(expired), max(swept_run, last), size, tuple(reversed(versions)), encoders)

    def delete_versions(self, project: Project, versions: Sequence[str]) -> int:
        """Delete versions whose manifests are gone, in a worker; return the bytes stored for the project then. Raises StoreError."""
        for version in versions:
            self.registry.delete(project.key, version)
            log.info("version_deleted", project=project.id, version=version, reason="expired")
        return self.registry.stored_bytes(project.key)

    @property
    def runs(self) -> Runs:
        return Runs(self.registry.store)

    def _delete_checkpoints(self, project: Project, runs: AbstractSet[str]) -> None:
        """Delete them, with one listing for all runs: after a takeover of an earlier release there are many."""
        for key in list(self.registry.store.keys(f"runs/{project.id}-")):
            _, run, *rest = key.split("/")
            if run in runs and rest[0] == "checkpoints":
                self.registry.store.delete(key)

    def _delete_embed_runs(self, project: Project) -> None:
        """Delete the runs of kind `embed` but the last one: a new one is requested when no other is active."""
        for run in self.runs.embed_names(project.id)[:-1]:
            self.runs.delete(run)
            log.info("run_deleted", run=run, reason="a newer one has been requested")

    def _expired_unremembered(
        self, project: Project, records: Sequence[RunRecord], now: float
    ) -> Iterator[str]:
        """Yield old runs in the store that are too far back to be remembered, or of a project that had the id before.

        A run without a request was half deleted: the request is written first of all and deleted first of all.
        """
        known = {record.run for record in records}
        newest = max((run_number(run) for run in known), default=0)
        for run in self.runs.names(project.id):
            if run in known or run_number(run) > newest:  # requested since the sweep began
                continue
            try:
                request = self.runs.request(run)
                record = RunRecord(request, self.runs.launch_state(run)) if request else None
            except StoreError as error:  # it is there, and broken
                log.warning("old_run_unreadable", run=run, reason=str(error))
                continue
            if record is None or _is_expired(record, self.settings, now):
                yield run
