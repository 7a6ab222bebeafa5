"""runs/<run>/ in the bucket: request, launch, status and log of each run.

Each document has one writer: the leader for request.json and launch.json, the run for status.json and log.txt. A run that was
requested by release 0.1.0 has a snapshot.json of the labels that it read as well.
A run is named `<project id>-<n>`, n being one more than the project's highest in the bucket. A run of kind `embed` is named
`<project id>-embed-<n>`: it takes no number from the versions of training runs, and earlier releases ignore it.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, TypeVar

from services.core import documents
from services.core.domain import LaunchState, Project, RunRequest, RunState, RunStatus, Snapshot
from services.core.errors import NotFound
from services.core.parallel import in_parallel
from services.core.store import ObjectStore

FINAL = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})
LABEL_NAMES_ONLY: Final = "-label-names-only"
"""Between stem and number in the names of versions that were made from label names and unlabelled texts alone."""
_NAME = re.compile(r"^(\d+)-(\d+)$")
_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs of a store."""

    store: ObjectStore

    def names_by_project(self) -> dict[int, list[str]]:
        """List all requested runs, oldest first, by project id, with one listing."""
        found: dict[int, list[int]] = {}
        for name in self.store.folders("runs/"):
            if match := _NAME.match(name):
                found.setdefault(int(match[1]), []).append(int(match[2]))
        return {project: [f"{project}-{run}" for run in sorted(runs)] for project, runs in found.items()}

    def names(self, project_id: int) -> list[str]:
        """List the project's requested runs, oldest first."""
        names = {key.split("/")[1] for key in self.store.keys(f"runs/{project_id}-")}
        numbers = sorted(int(match[2]) for name in names if (match := _NAME.match(name)))
        return [f"{project_id}-{number}" for number in numbers]

    def embed_names(self, project_id: int) -> list[str]:
        """List the project's runs of kind `embed`, oldest first."""
        prefix = f"{project_id}-embed-"
        names = {key.split("/")[1] for key in self.store.keys(f"runs/{prefix}")}
        return sorted((name for name in names if name.removeprefix(prefix).isdecimal()), key=run_number)

    def next_name(self, project_id: int) -> str:
        """Return a name that no run of the project has had."""
        names = self.names(project_id)
        return f"{project_id}-{run_number(names[-1]) + 1 if names else 1}"

    def request(self, run: str) -> RunRequest | None:
        return self._read(run, "request.json", RunRequest)

    def status(self, run: str) -> RunStatus | None:
        """Return the status that the run wrote last."""
        return self._read(run, "status.json", RunStatus)

    def launch_state(self, run: str) -> LaunchState | None:
        """Return what the leader knows of the run's processes."""
        return self._read(run, "launch.json", LaunchState)

    def snapshot(self, run: str) -> Snapshot | None:
        """Return the labels that a run of release 0.1.0 read."""
        return self._read(run, "snapshot.json", Snapshot)

    def log(self, run: str) -> str:
        """Return the tail of the run's log."""
        try:
            return self.store.read(f"runs/{run}/log.txt").decode("utf-8", "replace")
        except NotFound:
            return ""

    def write(self, document: RunRequest | RunStatus | LaunchState) -> None:
        """Store a request, a status or a launch."""
        name = {RunRequest: "request", RunStatus: "status", LaunchState: "launch"}[type(document)]
        self.store.write(f"runs/{document.run}/{name}.json", documents.dump(document))

    def write_snapshot(self, run: str, snapshot: Snapshot) -> None:
        """Store the labels that a run of release 0.1.0 read; the trigger counts changes from here."""
        self.store.write(f"runs/{run}/snapshot.json", documents.dump(snapshot))

    def delete(self, run: str) -> None:
        """Remove the run, its request first: a request without an outcome would be launched again."""
        self.store.delete(f"runs/{run}/request.json")
        in_parallel(self.store.delete, list(self.store.keys(f"runs/{run}/")))

    def _read(self, run: str, name: str, kind: type[_Document]) -> _Document | None:
        key = f"runs/{run}/{name}"
        try:
            return documents.load(kind, self.store.read(key), key)
        except NotFound:
            return None


def project_id_of(run: str) -> int:
    """Return the project id of `<project id>-<n>`."""
    return int(run.partition("-")[0])


def run_number(run: str) -> int:
    """Return the n of `<project>-<n>`."""
    return int(run.rpartition("-")[2])


def embed_run_name(project_id: int, number: int) -> str:
    """Return the name of a project's n-th run of kind `embed`."""
    return f"{project_id}-embed-{number}"


def version_name(project: Project, model_name: str | None, run: str, letter: str = "") -> str:
    """Return `<stem>-<n><letter>`, n being the run's number."""
    return f"{version_stem(project, model_name)}-{run_number(run)}{letter}"


def names_version_name(project: Project, model_name: str | None, run: str) -> str:
    """Return `<stem>-label-names-only-<n>` for the version that a run of kind `embed` makes; annotators read it."""
    return f"{version_stem(project, model_name)}{LABEL_NAMES_ONLY}-{run_number(run)}"


def version_stem(project: Project, model_name: str | None) -> str:
    """Return FINETUNED_MODEL_NAME, or the project's title in ASCII. A request stores it, so that a new title renames no run."""
    plain = unicodedata.normalize("NFKD", project.title.lower()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    return model_name or slug or f"project-{project.id}"
