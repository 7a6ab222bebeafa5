"""runs/<run>/ in the bucket: what was asked, launched, read and seen of each run.

Each document has one writer: request.json and launch.json the leader, snapshot.json, status.json and log.txt the run.
A run is named `<project id>-<n>`, n one more than the highest that the bucket holds for that project.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TypeVar

from services.core import documents
from services.core.domain import Launch, Project, RunRequest, RunState, RunStatus, Snapshot
from services.core.errors import NotFound
from services.core.store import ObjectStore

FINAL = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})
_NAME = re.compile(r"^(\d+)-(\d+)$")
_Document = TypeVar("_Document")


@dataclass(frozen=True, slots=True)
class Runs:
    """All runs in a store."""

    store: ObjectStore

    def names(self, project_id: int) -> list[str]:
        """The project's runs that were requested, oldest first."""
        found = [match for name in self.store.folders("runs/") if (match := _NAME.match(name))]
        numbers = sorted(int(match[2]) for match in found if int(match[1]) == project_id)
        return [f"{project_id}-{number}" for number in numbers]

    def next_name(self, project_id: int) -> str:
        """A name that no run of the project has had."""
        names = self.names(project_id)
        return f"{project_id}-{run_number(names[-1]) + 1 if names else 1}"

    def request(self, run: str) -> RunRequest | None:
        """What was asked of the run."""
        return self._read(run, "request.json", RunRequest)

    def status(self, run: str) -> RunStatus | None:
        """What the run last said of itself."""
        return self._read(run, "status.json", RunStatus)

    def launch(self, run: str) -> Launch | None:
        """What the leader knows of the run's processes."""
        return self._read(run, "launch.json", Launch)

    def snapshot(self, run: str) -> Snapshot | None:
        """The labels that the run read."""
        return self._read(run, "snapshot.json", Snapshot)

    def log(self, run: str) -> str:
        """The last lines that the run printed."""
        try:
            return self.store.read(f"runs/{run}/log.txt").decode("utf-8", "replace")
        except NotFound:
            return ""

    def write(self, document: RunRequest | RunStatus | Launch) -> None:
        """Put a request, a status or a launch where it belongs."""
        name = {RunRequest: "request", RunStatus: "status", Launch: "launch"}[type(document)]
        self.store.write(f"runs/{document.run}/{name}.json", documents.dump(document))

    def write_snapshot(self, run: str, snapshot: Snapshot) -> None:
        """Keep the labels that the run read: the trigger counts from here."""
        self.store.write(f"runs/{run}/snapshot.json", documents.dump(snapshot))

    def delete(self, run: str) -> None:
        """Remove all of the run, its request first: were its outcome gone and the request there, it would be launched again."""
        self.store.delete(f"runs/{run}/request.json")
        for key in list(self.store.keys(f"runs/{run}/")):
            self.store.delete(key)

    def _read(self, run: str, name: str, kind: type[_Document]) -> _Document | None:
        key = f"runs/{run}/{name}"
        try:
            return documents.load(kind, self.store.read(key), key)
        except NotFound:
            return None


def run_number(run: str) -> int:
    """The n of `<project>-<n>`."""
    return int(run.rpartition("-")[2])


def version_name(project: Project, model_name: str | None, run: str, letter: str = "") -> str:
    """`<stem>-<n><letter>`, n the run's number."""
    return f"{version_stem(project, model_name)}-{run_number(run)}{letter}"


def version_stem(project: Project, model_name: str | None) -> str:
    """FINETUNED_MODEL_NAME, or the project's title in ASCII; in a request, so that a new title renames no run half-way."""
    plain = unicodedata.normalize("NFKD", project.title.lower()).encode("ascii", "ignore").decode()
    slug = re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40].strip("-")
    return model_name or slug or f"project-{project.id}"
