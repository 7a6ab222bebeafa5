"""Reading what the store has of each project, in workers: at the start of a term, and again after an error.

A term begins with two listings for all projects together, then a few small objects of each project: project.json,
connection.json and state.json. Only runs and versions of a leader of an earlier release need more.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from services.adapter.leader.older_runs import OlderRuns
from services.adapter.leader.workers import Finished, Workers
from services.adapter.state.documents import Connection, ProjectDocuments, VersionOutcome
from services.adapter.state.project_state import (
    ProjectState,
    RunRecord,
    read_project_state,
    with_names_run,
)
from services.adapter.training.runs import published_versions, read_records
from services.core.domain import Manifest, Project, RunRequest, Served
from services.core.errors import StoreError
from services.core.registry import Registry
from services.core.runs import Runs, run_number
from services.core.store import ObjectStore

_KEY: Final = re.compile(r"^\d+-\d+$")


@dataclass(frozen=True, slots=True)
class LoadedProject:
    """What the store has of one project."""

    project: Project
    connection: Connection = field(default_factory=Connection)
    state: ProjectState = field(default_factory=ProjectState)
    """state.json as it is stored."""
    records: tuple[RunRecord, ...] = ()
    """The remembered runs, oldest first."""
    outcomes: tuple[VersionOutcome, ...] = ()
    """Of the versions that these runs have published."""
    last_run: int = 0
    """The highest number of any run."""
    manifests: tuple[Manifest, ...] = ()
    """Of the versions that it serves, and of the newest."""
    older: tuple[str, ...] = ()
    """Names of runs that were not read: no decision depends on them."""
    unwritten: tuple[RunRequest, ...] = ()
    """Requests of active runs without a request.json: the leader that added them died before it wrote that."""


def load_project(
    store: ObjectStore, project_key: str, run_names: Sequence[str] | None, served: Served
) -> LoadedProject:
    """Read a project. `run_names` None: state.json knows all runs, if there is one. Raises NotFound without a project.json, StoreError."""
    runs, stored = Runs(store), ProjectDocuments(store, project_key)
    project = Registry(store).project(project_key)
    state = read_project_state(store, project_key)
    if state is None:
        state = ProjectState()
        run_names = runs.names(project.id) if run_names is None else run_names
    records, older = read_records(runs, project_key, state.runs, run_names)
    active = [record for record in records if record.outcome is None]
    with_versions = with_names_run(records, state)
    return LoadedProject(
        project,
        stored.connection(),
        state,
        tuple(records),
        tuple(_outcomes(stored, state, with_versions)),
        max([state.last_run, *(run_number(name) for name in run_names or ())]),
        tuple(_manifests(Registry(store), project_key, served, with_versions)),
        older,
        tuple(record.request for record in active if runs.request(record.run) is None),
    )


def _outcomes(
    stored: ProjectDocuments, state: ProjectState, records: Iterable[RunRecord]
) -> Iterator[VersionOutcome]:
    """Yield the outcomes of these runs' versions: from state.json, or as an earlier release has written them."""
    known = {outcome.version: outcome for outcome in state.outcomes}
    for record in records:
        for published in record.status.published if record.status else ():
            outcome = known.get(published.version) or stored.outcome(published.version)
            if outcome:
                yield outcome


def _manifests(
    registry: Registry, project_key: str, served: Served, records: Sequence[RunRecord]
) -> Iterator[Manifest]:
    """Yield the manifests that are not missing or broken. Raises StoreError if the store does not answer: a worker tries again."""
    names = (served.current, served.previous, served.target, *published_versions(records)[:1])
    for version in dict.fromkeys(filter(None, names)):
        try:
            yield registry.manifest(project_key, version)
        except StoreError as error:
            if error.transient:
                raise


@dataclass(slots=True)
class ProjectLoader:
    """The projects that are to be loaded. Only the leader's thread may call it."""

    store: ObjectStore
    workers: Workers
    served: Callable[[str], Served]
    """What the project with this key serves."""
    on_listed: Callable[[Collection[int]], None]
    """Called with the ids of all projects in the store."""
    on_loaded: Callable[[str, Finished[LoadedProject]], None]
    """Called with a project's key and what was read, or why it could not be."""
    older: OlderRuns
    _due: dict[int, tuple[str, float]] = field(default_factory=dict)
    """Key and time, by project id."""
    _unread: set[int] | None = None
    """Projects that were not read in this term; None until the store was listed."""
    _run_names: dict[int, list[str]] = field(default_factory=dict)
    """Of projects that were not read in this term."""

    @property
    def is_complete(self) -> bool:
        """Whether each project in the store was read in this term, or could not be."""
        return self._unread is not None and not self._unread

    def add(self, project_key: str, at: float) -> None:
        """Read the project at `at`, instead of another one that has its id."""
        self._due[id_of(project_key)] = (project_key, at)

    def remove(self, project_id: int) -> None:
        self._due.pop(project_id, None)

    def is_pending(self, project_id: int) -> bool:
        """Return whether the project will be loaded, or may be: the store has not been listed yet."""
        return self._unread is None or project_id in self._due

    @property
    def is_idle(self) -> bool:
        """Whether the store was listed, and no project is to be read, for the first time or after an error."""
        return self._unread is not None and not self._due

    def next_at(self) -> float:
        """Return when the next project is due that no worker reads; infinity if none is."""
        times = (at for number, (_, at) in self._due.items() if not self.workers.is_busy(("load", number)))
        return min(times, default=float("inf"))

    def step(self, first: Collection[int], now: float) -> None:
        """Give the workers what is due, `first` before the others."""
        if self._unread is None:
            self.workers.submit("list projects", partial(_list, self.store), partial(self._listed, now))
            return
        due = [project_id for project_id, (_, at) in self._due.items() if at <= now]
        for project_id in sorted(due, key=lambda project_id: project_id not in first):
            key, _ = self._due[project_id]
            work = partial(load_project, self.store, key, self._run_names.get(project_id), self.served(key))
            self.workers.submit(("load", project_id), work, partial(self._loaded, project_id, key))
        if self.is_complete:
            self.older.step()

    def _listed(self, now: float, finished: Finished[tuple[list[str], dict[int, list[str]]]]) -> None:
        keys, names = finished.result()  # raises: without the list nothing is known, and the tick fails
        newest = {id_of(key): key for key in sorted(keys, key=_created_at)}
        self._run_names = {project_id: names.get(project_id, []) for project_id in newest}
        self._due |= {project_id: (key, now) for project_id, key in newest.items()}
        self._unread = set(newest)
        self.on_listed(self._unread)

    def _loaded(self, project_id: int, key: str, finished: Finished[LoadedProject]) -> None:
        if self._due.get(project_id, ("", 0.0))[0] != key:
            return  # another project has the id now
        del self._due[project_id]
        if self._unread is not None:
            self._unread.discard(project_id)
        if finished.error is None:
            self._run_names.pop(project_id, None)
            self.older.add(key, finished.result().older)
        self.on_loaded(key, finished)


def _list(store: ObjectStore) -> tuple[list[str], dict[int, list[str]]]:
    """Return the keys of all projects, and the names of all runs by project id."""
    keys = [key for key in store.folders("projects/") if _KEY.match(key)]
    return keys, Runs(store).names_by_project()


def id_of(project_key: str) -> int:
    """Return Label Studio's id of the project."""
    return int(project_key.partition("-")[0])


def _created_at(project_key: str) -> int:
    return int(project_key.partition("-")[2])
