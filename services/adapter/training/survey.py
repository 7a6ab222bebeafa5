"""What of the store may be deleted: old versions and runs, checkpoints of ended runs, and what killed processes left.

`survey` applies the rules of retention to all that the store holds, and changes nothing; `remove` deletes what it found. A
project that is no longer connected is reported, and left to a person. Both take long: call them in a worker.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from services.adapter.state.project_state import EncoderReferences, RunRecord
from services.adapter.training.retention import encoder_references, expired_runs, kept_versions
from services.adapter.training.runs import baseline_runs
from services.core.domain import EMBED, Manifest, Project, Served, expired_versions
from services.core.errors import StoreError
from services.core.parallel import in_parallel
from services.core.registry import Registry
from services.core.runs import Runs, run_number
from services.core.settings import StorageSettings
from services.core.store import Entry, ObjectStore

_DAY_SECONDS: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that may be deleted: its keys, in the order of deletion, and its size in bytes."""

    name: str
    why: str
    keys: tuple[str, ...]
    size: int
    version: str = ""
    """The version that must not be served for this to be deleted; "" for what belongs to a run."""
    interrupted: bool = False
    """Whether it is a version that was not published: it is kept while it is being published."""


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
    encoders: EncoderReferences | None = None
    """Which encoders its versions name, those that may be deleted included."""


def survey(
    store: ObjectStore, settings: StorageSettings, now: float, project_id: int = 0
) -> list[StoredProject]:
    """Return all projects by key, or those that have had this id in Label Studio. Changes nothing. Raises StoreError."""
    registry, runs = Registry(store), Runs(store)
    of_id = f"{project_id}-" if project_id else ""
    projects = {project.key: project for project in registry.projects()}
    entries = _grouped(store.entries(f"projects/{of_id}"))
    run_entries, records = _grouped(store.entries(f"runs/{of_id}")), _records(runs, of_id)
    serving = registry.serving().projects
    found, keys = [], sorted({*entries, *records})
    for key, (manifests, unreadable) in zip(keys, in_parallel(registry.all_manifests, keys), strict=True):
        project_records = records.get(key, [])
        run_sizes = sum(_size(run_entries.get(record.run, ())) for record in project_records)
        versions = [entry for entry in entries.get(key, ()) if "/versions/" in entry.key]
        title = projects[key].title if key in projects else ""
        stored = StoredProject(key, title, _size(versions), run_sizes, orphaned=_orphaned(key, projects))
        stored = replace(stored, encoders=encoder_references(manifests, unreadable, now))
        if not stored.orphaned:
            served = serving.get(key, Served())
            leftovers = _leftover_versions(manifests, versions, served, settings, now)
            leftovers += _leftover_runs(project_records, run_entries, settings, now)
            stored = replace(stored, leftovers=tuple(leftovers))
        found.append(stored)
    return found


def remove(store: ObjectStore, leftover: Leftover, now: float) -> str:
    """Delete the leftover; return why it is kept, or "". Raises StoreError; what is left then is found again."""
    if leftover.interrupted and _goes_on(store, leftover, now):
        return "it is being published"
    first, *others = leftover.keys
    store.delete(first)
    in_parallel(store.delete, others)
    return ""


def remove_all(store: ObjectStore, leftovers: Sequence[Leftover], now: float) -> list[str]:
    """Delete the leftovers, several at a time; return for each what `remove` does. Raises StoreError."""
    return in_parallel(lambda leftover: remove(store, leftover, now), leftovers)


def _goes_on(store: ObjectStore, leftover: Leftover, now: float) -> bool:
    """Return whether anything of the version has been written lately."""
    folder = leftover.keys[0].partition("/versions/")[0] + f"/versions/{leftover.version}/"
    return any(now - entry.modified <= _DAY_SECONDS for entry in store.entries(folder))


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
        return "its project.json is missing or unreadable"
    others = (other for other in projects.values() if other.id == project.id)
    replaced = any(other.created_at > project.created_at for other in others)
    return f"Label Studio has since given its id {project.id} to another project" if replaced else ""


def _leftover_versions(
    manifests: list[Manifest], entries: list[Entry], served: Served, settings: StorageSettings, now: float
) -> list[Leftover]:
    by_version: dict[str, list[Entry]] = {}
    for entry in entries:
        by_version.setdefault(entry.key.split("/")[3], []).append(entry)
    kept = kept_versions(served)
    expired = expired_versions(manifests, kept, settings.keep_versions, settings.keep_days, now)
    why = f"beyond the newest {settings.keep_versions}, and old"
    found = [
        replace(_leftover(f"version {name}", why, by_version[name], "manifest.json"), version=name)
        for name in reversed(expired)  # oldest first
        if name in by_version
    ]
    for name, files in by_version.items():
        has_manifest = any(entry.key.endswith(f"/{name}/manifest.json") for entry in files)
        is_old = now - max(entry.modified for entry in files) > _DAY_SECONDS
        if not has_manifest and name not in kept and is_old:
            why = "its publication was interrupted more than a day ago"
            incomplete = _leftover(f"incomplete version {name}", why, files)
            found.append(replace(incomplete, version=name, interrupted=True))
    return found


def _leftover_runs(
    records: list[RunRecord],
    entries: dict[str, list[Entry]],
    settings: StorageSettings,
    now: float,
) -> list[Leftover]:
    ended = [record for record in records if record.outcome is not None and record.request.kind != EMBED]
    baselines = frozenset(run.run for run in baseline_runs(ended))
    expired = expired_runs(ended, baselines, settings, now)
    found = []
    for record in ended:
        files = entries.get(record.run, [])
        if record in expired:
            why = f"ended more than {settings.keep_runs_days:g} days ago"
            # The request goes first: a run with a request and no outcome would be launched once more.
            found.append(_leftover(f"run {record.run}", why, files, "request.json"))
        elif checkpoints := [entry for entry in files if "/checkpoints/" in entry.key]:
            found.append(_leftover(f"checkpoints of run {record.run}", "the run has ended", checkpoints))
    embeds = [record for record in records if record.request.kind == EMBED]
    found.extend(
        _leftover(
            f"run {record.run}", "a newer one has been requested", entries.get(record.run, []), "request.json"
        )
        for record in embeds[:-1]
        if record.outcome is not None
    )
    return found


def _records(runs: Runs, prefix: str) -> dict[str, list[RunRecord]]:
    """Return every run that can be read, by its project's key, oldest first. The others are left alone."""
    found: dict[str, list[RunRecord]] = {}
    names = (name for name in runs.store.folders("runs/") if name.startswith(prefix))
    for record in in_parallel(partial(_record, runs), names):
        if record:
            found.setdefault(record.request.project_key, []).append(record)
    return {key: sorted(records, key=lambda record: run_number(record.run)) for key, records in found.items()}


def _record(runs: Runs, run: str) -> RunRecord | None:
    """Return the run; None if it cannot be read. Raises StoreError to be retried."""
    try:
        request = runs.request(run)
        return RunRecord(request, runs.launch_state(run), runs.status(run)) if request else None
    except StoreError as error:
        if error.transient:
            raise
        return None


def _leftover(name: str, why: str, entries: list[Entry], first: str = "") -> Leftover:
    """Return the entries as a leftover; the file named `first` is deleted before all others."""
    ordered = sorted(entries, key=lambda entry: entry.key.rpartition("/")[2] != first)
    return Leftover(name, why, tuple(entry.key for entry in ordered), _size(entries))


def _size(entries: Iterable[Entry]) -> int:
    return sum(entry.size for entry in entries)
