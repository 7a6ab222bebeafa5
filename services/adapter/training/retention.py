"""What goes once it is of no more use: old versions, checkpoints of ended runs, old runs.

Never a version that is served, was served last or is about to be, and never the run that labels are counted from.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from services.adapter.training.history import RunHistory, RunRecord
from services.core.domain import Project, Served
from services.core.errors import StoreError
from services.core.registry import Registry, expired_versions
from services.core.settings import StorageSettings

log = structlog.get_logger()
_DAY_SECONDS = 86_400.0


@dataclass(frozen=True, slots=True)
class Retention:
    """Deletes by the settings' rules."""

    registry: Registry
    settings: StorageSettings

    def sweep(self, project: Project, served: Served, history: RunHistory, now: float) -> None:
        """After a run has ended. Raises StoreError; what was left is found by the next sweep."""
        self._sweep_versions(project, served, now)
        self._sweep_runs(history, now)
        self._sweep_unremembered(project, history, now)

    def _sweep_versions(self, project: Project, served: Served, now: float) -> None:
        manifests = self.registry.manifests(project.key)
        kept = frozenset(name for name in (served.current, served.previous, served.target) if name)
        for version in expired_versions(
            manifests, kept, self.settings.keep_versions, self.settings.keep_days, now
        ):
            self.registry.delete(project.key, version)
            log.info(
                "a version was deleted",
                project=project.id,
                version=version,
                reason="beyond those that are kept",
            )

    def _sweep_runs(self, history: RunHistory, now: float) -> None:
        ended = [record for record in history.records if record.outcome is not None]
        counted_from = history.baseline
        for record in ended:
            self._drop_checkpoints(record)
        for record in ended[:-1]:
            if (
                record is not counted_from
                and now - record.ended_at > self.settings.keep_runs_days * _DAY_SECONDS
            ):
                self._delete(history, record)
                history.remove(record.run)

    def _sweep_unremembered(self, project: Project, history: RunHistory, now: float) -> None:
        """Runs that are in the store and too far back to be remembered, or of a project that had the number before."""
        known = {record.run for record in history.records}
        for run in history.runs.names(project.id):
            if run in known:
                continue
            if _is_half_deleted(history, run):
                history.runs.delete(run)
                continue
            record = _unremembered(history, run)
            if record and now - record.ended_at > self.settings.keep_runs_days * _DAY_SECONDS:
                self._delete(history, record)

    def _delete(self, history: RunHistory, record: RunRecord) -> None:
        history.runs.delete(record.run)
        reason = f"older than {self.settings.keep_runs_days:g} days"
        log.info("a run was deleted", run=record.run, reason=reason)

    def _drop_checkpoints(self, record: RunRecord) -> None:
        for key in list(self.registry.store.keys(f"runs/{record.run}/checkpoints/")):
            self.registry.store.delete(key)


def _is_half_deleted(history: RunHistory, run: str) -> bool:
    """Whether it has no request, which is written first of all and deleted first of all."""
    try:
        return history.runs.request(run) is None
    except StoreError:  # it is there, and broken
        return False


def _unremembered(history: RunHistory, run: str) -> RunRecord | None:
    """What tells the age of a run; None where that cannot be read, for then it stays."""
    try:
        request = history.runs.request(run)
        return RunRecord(request, history.runs.launch(run)) if request else None
    except StoreError as error:
        log.warning("an old run cannot be read", run=run, reason=str(error))
        return None
