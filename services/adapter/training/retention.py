"""What goes once it is of no more use: old versions, checkpoints of ended runs, old runs.

Never a version that is served, was served last or is about to be, and never the run that labels are counted from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.adapter.training.runs import RunHistory, RunRecord
from services.core.domain import Project, Served
from services.core.errors import StoreError
from services.core.registry import Registry, expired_versions
from services.core.runs import Runs, run_number
from services.core.settings import StorageSettings
from services.core.store import Entry, ObjectStore

log = structlog.get_logger()

_DAY_SECONDS: Final = 86_400.0


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
                "version_deleted",
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
        log.info("run_deleted", run=record.run, reason=reason)

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
        log.warning("old_run_unreadable", run=run, reason=str(error))
        return None


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that may go: its keys, in the order in which they go."""

    name: str
    why: str
    keys: tuple[str, ...]
    size: int
    """Bytes."""


@dataclass(frozen=True, slots=True)
class StoredProject:
    """What one project has in the store, in bytes, and what of it may go."""

    project: str
    title: str
    versions: int
    runs: int
    leftovers: tuple[Leftover, ...] = ()
    orphaned: str = ""
    """Why nobody asks for this project any more; "" for a connected one."""


def survey(store: ObjectStore, settings: StorageSettings, now: float) -> list[StoredProject]:
    """All projects, by key. Changes nothing. Raises StoreError."""
    registry, runs = Registry(store), Runs(store)
    projects = {project.key: project for project in registry.projects()}
    entries = _grouped(store.entries("projects/"))
    run_entries, records = _grouped(store.entries("runs/")), _records(runs)
    serving = registry.serving().projects
    found = []
    for key in sorted({*entries, *records}):
        mine = records.get(key, [])
        run_sizes = sum(_size(run_entries.get(record.run, ())) for record in mine)
        versions = [entry for entry in entries.get(key, ()) if "/versions/" in entry.key]
        title = projects[key].title if key in projects else ""
        holding = StoredProject(key, title, _size(versions), run_sizes, orphaned=_orphaned(key, projects))
        if not holding.orphaned:
            gone = _versions(registry, key, versions, serving.get(key, Served()), settings, now)
            gone += _runs(runs, mine, run_entries, settings, now)
            holding = replace(holding, leftovers=tuple(gone))
        found.append(holding)
    return found


def remove(store: ObjectStore, leftover: Leftover) -> None:
    """Delete it. Raises StoreError; what is left then is found again."""
    for key in leftover.keys:
        store.delete(key)


def _grouped(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """By the second part of the key: the project, or the run."""
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        parts = entry.key.split("/")
        if len(parts) > 2:
            groups.setdefault(parts[1], []).append(entry)
    return groups


def _orphaned(key: str, projects: dict[str, Project]) -> str:
    project = projects.get(key)
    if project is None:
        return "its project.json is not there"
    newer = [
        other
        for other in projects.values()
        if other.id == project.id and other.created_at > project.created_at
    ]
    return f"Label Studio has given its number {project.id} to another project since" if newer else ""


def _versions(
    registry: Registry, key: str, entries: list[Entry], served: Served, settings: StorageSettings, now: float
) -> list[Leftover]:
    by_version: dict[str, list[Entry]] = {}
    for entry in entries:
        by_version.setdefault(entry.key.split("/")[3], []).append(entry)
    kept = frozenset(name for name in (served.current, served.previous, served.target) if name)
    doomed = expired_versions(registry.manifests(key), kept, settings.keep_versions, settings.keep_days, now)
    gone = [
        _leftover(
            f"version {name}",
            f"beyond the newest {settings.keep_versions}, and old",
            by_version[name],
            "manifest.json",
        )
        for name in doomed
        if name in by_version
    ]
    for name, files in by_version.items():
        has_manifest = any(entry.key.endswith(f"/{name}/manifest.json") for entry in files)
        if not has_manifest and name not in kept and _is_quiet(files, now):
            gone.append(
                _leftover(f"half version {name}", "its making was cut off more than a day ago", files)
            )
    return gone


def _runs(
    runs: Runs,
    records: list[RunRecord],
    entries: dict[str, list[Entry]],
    settings: StorageSettings,
    now: float,
) -> list[Leftover]:
    ended = [record for record in records if record.outcome is not None]
    kept = {_baseline_run(runs, ended), ended[-1].run if ended else ""}
    gone = []
    for record in ended:
        files = entries.get(record.run, [])
        if record.run not in kept and now - record.ended_at > settings.keep_runs_days * _DAY_SECONDS:
            why = f"ended more than {settings.keep_runs_days:g} days ago"
            # Were its outcome gone and the request there, the run would be launched once more.
            gone.append(_leftover(f"run {record.run}", why, files, "request.json"))
        elif checkpoints := [entry for entry in files if "/checkpoints/" in entry.key]:
            gone.append(_leftover(f"checkpoints of run {record.run}", "the run has ended", checkpoints))
    return gone


def _records(runs: Runs) -> dict[str, list[RunRecord]]:
    """Every run that can be read, by its project's key, oldest first. What cannot be read is left alone."""
    found: dict[str, list[RunRecord]] = {}
    for run in runs.store.folders("runs/"):
        try:
            request = runs.request(run)
            record = RunRecord(request, runs.launch(run), runs.status(run)) if request else None
        except StoreError as error:
            if error.transient:
                raise
            continue
        if record:
            found.setdefault(record.request.project_key, []).append(record)
    return {key: sorted(records, key=lambda record: run_number(record.run)) for key, records in found.items()}


def _baseline_run(runs: Runs, ended: Sequence[RunRecord]) -> str:
    """The run whose snapshot labels are counted from; "" where there is none."""
    for record in reversed(ended):
        if replace(record, snapshot=runs.snapshot(record.run)).can_be_baseline:
            return record.run
    return ""


def _leftover(name: str, why: str, entries: list[Entry], first: str = "") -> Leftover:
    """`first`: the name of the file that goes before all others."""
    ordered = sorted(entries, key=lambda entry: entry.key.rpartition("/")[2] != first)
    return Leftover(name, why, tuple(entry.key for entry in ordered), _size(entries))


def _is_quiet(entries: Sequence[Entry], now: float) -> bool:
    return now - max(entry.modified for entry in entries) > _DAY_SECONDS


def _size(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)
