"""A bucket as release 0.1.0 leaves it, and the projects' labels, which the simulated Label Studio serves as well."""

from __future__ import annotations

import hashlib
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache

from services.adapter.state.board import ProjectView
from services.adapter.state.board_file import BOARD_KEY, BoardDocument
from services.adapter.state.documents import Connection, PromotionResult, VersionOutcome
from services.core import documents
from services.core.domain import (
    Artefact,
    Attempt,
    Estimate,
    GateDecision,
    LaunchState,
    Lineage,
    Manifest,
    Method,
    Project,
    Published,
    RunRequest,
    RunState,
    RunStatus,
    Served,
    Serving,
    Snapshot,
)
from services.core.labels import label_config_hash, parse_label_space
from services.core.settings import TrainingSettings

NAME = "bucket"
LABELS = tuple(f"intent {number}" for number in range(20))
URL = "http://fitloop:9090"
TITLE = "Support"
_CREATED = 1_790_000_000
_LABELLED_FROM = 1_792_000_000
IDS = 1_000_000
"""Task ids of one project; annotations have their task's id."""
_HOUR = 3600.0
_VERSIONS = 10


@dataclass(frozen=True)
class Content:
    """Sizes."""

    projects: int
    runs: int
    """Runs of each project, each of which published a version; the newest ten versions are still there."""
    labels: int
    """Labelled tasks of each project."""


def key_of(project_id: int) -> str:
    return f"{project_id}-{_CREATED + project_id}"


def config() -> str:
    choices = "".join(f'<Choice value="{label}"/>' for label in LABELS)
    return f'<View><Text name="text" value="$text"/><Choices name="intent" toName="text">{choices}</Choices></View>'


def created_at(project_id: int) -> str:
    return _stamp(_CREATED + project_id)


@cache
def labelled_at(number: int) -> str:
    """When the task with that number in its project was labelled: one a second."""
    return _stamp(_LABELLED_FROM + number)


def task_id(project_id: int, number: int) -> int:
    return project_id * IDS + number


def write_content(content: Content) -> dict[str, bytes]:
    """Return all objects."""
    projects = [_project(number) for number in range(1, content.projects + 1)]
    served = Served(f"support-{content.runs}", f"support-{content.runs - 1}", why="promoted by the gate")
    table = Serving(1, 1, {project.key: served for project in projects})
    space = parse_label_space(config(), None)
    board = BoardDocument(tuple(ProjectView(project, space, served) for project in projects), time.time(), 1)
    objects = {"serving.json": documents.dump(table), BOARD_KEY: documents.dump(board)}
    for project in projects:
        objects.update(_project_objects(project, content))
    return objects


def _project_objects(project: Project, content: Content) -> dict[str, bytes]:
    home = f"projects/{project.key}"
    connection = Connection(seen_url=URL, refreshed=f"support-{content.runs}")
    objects = {
        f"{home}/project.json": documents.dump(project),
        f"{home}/connection.json": documents.dump(connection),
    }
    snapshot, begin = _snapshot(project, content), time.time() - (content.runs + 24) * _HOUR
    for number in range(1, content.runs + 1):
        run, version, at = f"{project.id}-{number}", f"support-{number}", begin + number * _HOUR
        objects[f"runs/{run}/snapshot.json"] = snapshot
        for name, document in _run_documents(project, run, version, at):
            objects[f"runs/{run}/{name}.json"] = documents.dump(document)
        outcome = VersionOutcome(version, PromotionResult.PROMOTED, f"{version} is promoted.", at + 60, 1)
        objects[f"{home}/verdicts/{version}.json"] = documents.dump(outcome)
        if number > content.runs - _VERSIONS:
            objects[f"{home}/versions/{version}/manifest.json"] = documents.dump(
                _manifest(project, run, version, at, content.labels)
            )
    return objects


def _run_documents(project: Project, run: str, version: str, at: float) -> list[tuple[str, object]]:
    parameters = TrainingSettings().parameters()
    published = (Published(version, True, f"{version} is promoted: it is better."),)
    return [
        (
            "request",
            RunRequest(run, project.key, project.id, "10 labelled tasks changed", parameters, at, term=1),
        ),
        ("launch", LaunchState(run, (Attempt(1, at, at + 60, 0),), RunState.DONE)),
        ("status", RunStatus(run, RunState.DONE, published=published, exit_code=0, updated_at=at + 59)),
    ]


def _snapshot(project: Project, content: Content) -> bytes:
    tasks = {}
    for number in range(content.labels):
        task = task_id(project.id, number)
        tasks[str(task)] = hashlib.sha256(f"{task}@{labelled_at(number)}".encode()).hexdigest()[:12]
    return documents.dump(Snapshot(tasks, project.label_config_hash, LABELS, time.time(), "intent"))


def _manifest(project: Project, run: str, version: str, at: float, texts: int) -> Manifest:
    parameters = TrainingSettings().parameters()
    return Manifest(
        version=version,
        project_key=project.key,
        method=Method.LINEAR_PROBE,
        labels=LABELS,
        artefact=Artefact("sequence-classification", "ct2-int8", "", 256, 1.0),
        estimate=Estimate(120, 100, 0.75, 0.89, 0.8, "cross-fit"),
        gate=GateDecision(True, "better", ()),
        lineage=Lineage(
            run, (), "", project.label_config_hash, "tiny", "", "", parameters, None, texts, True
        ),
        created_at=at + 50,
        from_name="intent",
    )


def _project(project_id: int) -> Project:
    return Project(
        key_of(project_id), project_id, TITLE, config(), label_config_hash(config()), created_at(project_id)
    )


def _stamp(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
