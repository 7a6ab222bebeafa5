"""Retention: old versions, checkpoints of ended runs and old runs are deleted, by the leader's sweep and by `fitloop gc`.

Never deleted are a version that is served, was served last or is a target, and the run that labels are counted from. The sweep
deals with one project after each of its runs; `survey` applies the same rules to all that the store holds, and also finds what a
killed process left. A project that is no longer connected is reported, and left to a person.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.adapter.state.project_state import RunRecord
from services.adapter.training.runs import Swept, baseline_runs
from services.core.domain import Project, Served, expired_versions
from services.core.errors import StoreError
from services.core.registry import Registry
from services.core.runs import Runs, run_number
from services.core.settings import StorageSettings
from services.core.store import Entry, ObjectStore

log = structlog.get_logger()
_DAY_SECONDS: Final = 86_400.0


def kept_versions(served: Served) -> frozenset[str]:
    return frozenset(filter(None, (served.current, served.previous, served.target)))


def _is_expired(record: RunRecord, settings: StorageSettings, now: float) -> bool:
    return now - record.ended_at > settings.keep_runs_days * _DAY_SECONDS


def _expired_runs(
    ended: Sequence[RunRecord], baselines: frozenset[str], settings: StorageSettings, now: float
) -> list[RunRecord]:
    """Return the old runs (`ended` is oldest first), except the last one and those that labels may be counted from."""
    return [
        record for record in ended[:-1] if record.run not in baselines and _is_expired(record, settings, now)
    ]


@dataclass(frozen=True, slots=True)
class Retention:
    """Deletes what has expired of one project."""

    registry: Registry
    settings: StorageSettings

    def sweep(
        self,
        project: Project,
        is_kept: Callable[[str], bool],
        records: Sequence[RunRecord],
        baselines: frozenset[str],
        swept_run: int,
        now: float,
    ) -> Swept:
        """Delete what has expired, in a worker. Raises StoreError; what was left is found by the next sweep.

        `is_kept`: whether a version is served at this moment, was served last or is a target. `records`: the remembered runs.
        `swept_run`: the highest number of a run that an earlier sweep has seen.
        """
        manifests, keep = self.registry.manifests(project.key), self.settings
        for version in expired_versions(manifests, frozenset(), keep.keep_versions, keep.keep_days, now):
            if not is_kept(version):
                self.registry.delete(project.key, version)
                log.info("version_deleted", project=project.id, version=version, reason="expired")
        ended = [record for record in records if record.outcome is not None]
        last = max((run_number(record.run) for record in ended), default=0)
        self._delete_checkpoints(record.run for record in ended if run_number(record.run) > swept_run)
        expired = [record.run for record in _expired_runs(ended, baselines, keep, now)]
        for run in [*expired, *self._expired_unremembered(project, records, now)]:
            self.runs.delete(run)
            log.info("run_deleted", run=run, reason=f"older than {keep.keep_runs_days:g} days")
        return Swept(frozenset(expired), max(swept_run, last), self.registry.stored_bytes(project.key))

    @property
    def runs(self) -> Runs:
        return Runs(self.registry.store)

    def _delete_checkpoints(self, runs: Iterable[str]) -> None:
        for run in runs:
            for key in list(self.registry.store.keys(f"runs/{run}/checkpoints/")):
                self.registry.store.delete(key)

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


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that may be deleted: its keys, in the order of deletion, and its size in bytes."""

    name: str
    why: str
    keys: tuple[str, ...]
    size: int


@dataclass(frozen=True, slots=True)
class StoredProject:
    """What one project has in the store, in bytes, and what of it may be deleted."""

    project: str
    title: str
    versions: int
    runs: int
    leftovers: tuple[Leftover, ...] = ()
    orphaned: str = ""
    """Why it is no longer connected; "" for a connected one."""


def survey(store: ObjectStore, settings: StorageSettings, now: float) -> list[StoredProject]:
    """Return all projects, by key. Changes nothing. Raises StoreError."""
    registry, runs = Registry(store), Runs(store)
    projects = {project.key: project for project in registry.projects()}
    entries = _grouped(store.entries("projects/"))
    run_entries, records = _grouped(store.entries("runs/")), _records(runs)
    serving = registry.serving().projects
    found = []
    for key in sorted({*entries, *records}):
        project_records = records.get(key, [])
        run_sizes = sum(_size(run_entries.get(record.run, ())) for record in project_records)
        versions = [entry for entry in entries.get(key, ()) if "/versions/" in entry.key]
        title = projects[key].title if key in projects else ""
        stored = StoredProject(key, title, _size(versions), run_sizes, orphaned=_orphaned(key, projects))
        if not stored.orphaned:
            served = serving.get(key, Served())
            leftovers = _leftover_versions(registry, key, versions, served, settings, now)
            leftovers += _leftover_runs(project_records, run_entries, settings, now)
            stored = replace(stored, leftovers=tuple(leftovers))
        found.append(stored)
    return found


def remove(store: ObjectStore, leftover: Leftover) -> None:
    """Delete the leftover. Raises StoreError; what is left then is found again."""
    for key in leftover.keys:
        store.delete(key)


def _grouped(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Group the entries by the second part of their keys: the project, or the run."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        parts = entry.key.split("/")
        if len(parts) > 2:
            groups.setdefault(parts[1], []).append(entry)
    return groups


def _orphaned(key: str, projects: dict[str, Project]) -> str:
    project = projects.get(key)
    if project is None:
        return "its project.json is missing"
    others = (other for other in projects.values() if other.id == project.id)
    replaced = any(other.created_at > project.created_at for other in others)
    return f"Label Studio has since given its id {project.id} to another project" if replaced else ""


def _leftover_versions(
    registry: Registry, key: str, entries: list[Entry], served: Served, settings: StorageSettings, now: float
) -> list[Leftover]:
    by_version: dict[str, list[Entry]] = {}
    for entry in entries:
        by_version.setdefault(entry.key.split("/")[3], []).append(entry)
    kept, manifests = kept_versions(served), registry.manifests(key)
    expired = expired_versions(manifests, kept, settings.keep_versions, settings.keep_days, now)
    why = f"beyond the newest {settings.keep_versions}, and old"
    found = [
        _leftover(f"version {name}", why, by_version[name], "manifest.json")
        for name in expired
        if name in by_version
    ]
    for name, files in by_version.items():
        has_manifest = any(entry.key.endswith(f"/{name}/manifest.json") for entry in files)
        is_old = now - max(entry.modified for entry in files) > _DAY_SECONDS
        if not has_manifest and name not in kept and is_old:
            why = "its publication was interrupted more than a day ago"
            found.append(_leftover(f"incomplete version {name}", why, files))
    return found


def _leftover_runs(
    records: list[RunRecord],
    entries: dict[str, list[Entry]],
    settings: StorageSettings,
    now: float,
) -> list[Leftover]:
    ended = [record for record in records if record.outcome is not None]
    baselines = frozenset(run.run for run in baseline_runs(ended))
    expired = _expired_runs(ended, baselines, settings, now)
    found = []
    for record in ended:
        files = entries.get(record.run, [])
        if record in expired:
            why = f"ended more than {settings.keep_runs_days:g} days ago"
            # The request goes first: a run with a request and no outcome would be launched once more.
            found.append(_leftover(f"run {record.run}", why, files, "request.json"))
        elif checkpoints := [entry for entry in files if "/checkpoints/" in entry.key]:
            found.append(_leftover(f"checkpoints of run {record.run}", "the run has ended", checkpoints))
    return found


def _records(runs: Runs) -> dict[str, list[RunRecord]]:
    """Return every run that can be read, by its project's key, oldest first. The others are left alone."""
    found: dict[str, list[RunRecord]] = {}
    for run in runs.store.folders("runs/"):
        try:
            request = runs.request(run)
            record = RunRecord(request, runs.launch_state(run), runs.status(run)) if request else None
        except StoreError as error:
            if error.transient:
                raise
            continue
        if record:
            found.setdefault(record.request.project_key, []).append(record)
    return {key: sorted(records, key=lambda record: run_number(record.run)) for key, records in found.items()}


def _leftover(name: str, why: str, entries: list[Entry], first: str = "") -> Leftover:
    """Return the entries as a leftover; the file named `first` is deleted before all others."""
    ordered = sorted(entries, key=lambda entry: entry.key.rpartition("/")[2] != first)
    return Leftover(name, why, tuple(entry.key for entry in ordered), _size(entries))


def _size(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)
