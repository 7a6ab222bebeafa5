"""A run's surroundings: its request, the store that it writes to, Label Studio, and what it had done before.

`open_run` alone reads the outside world's settings; the parameters of training come from request.json and nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from services.core.domain import LabelSpace, Manifest, Method, Project, Published, RunRequest, Snapshot
from services.core.errors import BadData, BadRequest, LabelStudioNotFound, NoLabelSpace, NotFound
from services.core.labels import parse_label_space, signature
from services.core.registry import Registry
from services.core.runs import Runs, version_name
from services.core.store import ObjectStore, open_store
from services.trainer.data.dataset import Dataset, build_dataset, check_trainable
from services.trainer.process.distributed import SINGLE, Single
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel


class LabelSource(Protocol):
    """What a run asks of Label Studio."""

    def project(self, project_id: int) -> tuple[Project, Any]:
        """The project as it is now, and its counts."""
        ...

    def annotated_tasks(self, project_id: int) -> Iterator[dict[str, Any]]:
        """Tasks with annotations, by id."""
        ...


@dataclass(frozen=True, slots=True)
class Run:
    """One process's work on one run."""

    request: RunRequest
    runs: Runs
    registry: Registry
    labels: LabelSource
    progress: Progress
    stop: Stop
    checkpoint_seconds: float = 60.0
    group: Single = SINGLE

    @property
    def name(self) -> str:
        """`<project id>-<n>`."""
        return self.request.run


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What versions are made of."""

    run: str
    project: Project
    space: LabelSpace
    base: BaseModel
    dataset: Dataset


def parse_run_url(url: str) -> tuple[ObjectStore, str]:
    """The store and the run's name of `<store>/runs/<run>`. Raises BadRequest, BadConfig."""
    store_url, found, name = url.rstrip("/").rpartition("/runs/")
    if not found or not name or "/" in name:
        raise BadRequest(f"--run {url!r} names no run: give a store's URL that ends in /runs/<project>-<n>.")
    return open_store(store_url), name


def read_request(runs: Runs, name: str) -> RunRequest:
    """What was asked of the run. Raises BadRequest where nothing was."""
    request = runs.request(name)
    if request is None:
        raise BadRequest(
            f"{runs.store.url}/runs/{name}/request.json is missing: a run is requested before it is started."
        )
    return request


def read_project(run: Run) -> tuple[Project, LabelSpace, int]:
    """Project, label config and skipped annotations as they are now. Raises BadRequest when there is no such project any more."""
    try:
        with run.stop.interruptible():
            project, counts = run.labels.project(run.request.project_id)
    except LabelStudioNotFound as error:
        raise _deleted(run) from error
    if project.key != run.request.project_key:
        raise BadRequest(
            f"Project {project.id} is not the one that run {run.name} was asked for ({project.key}, not "
            f"{run.request.project_key}): it was deleted and its id used again."
        )
    try:
        space = parse_label_space(project.label_config, run.request.parameters.control)
    except NoLabelSpace as error:
        raise BadData(str(error)) from error
    return project, space, counts.skipped


def read_dataset(
    run: Run, project: Project, space: LabelSpace, *, skipped: int, resuming: bool, published: bool
) -> Dataset:
    """Texts and labels; what was read is kept first, so that the trigger knows it even where it cannot be trained on.

    A run that goes on from a checkpoint, or has a version, reads the labels that it read before, while none of them has
    changed. Once it has a version the snapshot stays as it is: what came later, no version may ever have learnt.
    Ranks that do not lead read what rank 0 has read. Raises BadData, BadRequest, Preempted.
    """
    if not run.group.leads:
        run.group.barrier(run.stop)
    before = run.runs.snapshot(run.name) if resuming or published or not run.group.leads else None
    tasks = _read_tasks(run)
    if before is not None:
        tasks = as_before(tasks, before)
    dataset = build_dataset(tasks, space, project.label_config_hash, time.time(), skipped)
    if not published:
        run.runs.write_snapshot(run.name, dataset.snapshot)
    if run.group.leads:
        run.group.barrier(run.stop)
    check_trainable(dataset, space)
    return dataset


def _read_tasks(run: Run) -> list[dict[str, Any]]:
    tasks = []
    try:
        with run.stop.interruptible():
            for task in run.labels.annotated_tasks(run.request.project_id):
                run.stop.check()
                tasks.append(task)
    except LabelStudioNotFound as error:
        raise _deleted(run) from error
    return tasks


def _deleted(run: Run) -> BadRequest:
    return BadRequest(
        f"Label Studio has no project {run.request.project_id}, or hides it from this token: run {run.name} cannot read "
        "its labels. If the project was deleted, nothing is left to do."
    )


def as_before(tasks: list[dict[str, Any]], before: Snapshot) -> list[dict[str, Any]]:
    """The snapshot's tasks alone, if all stand as they were; else all tasks."""
    now = {str(task["id"]): signature(task.get("annotations") or ()) for task in tasks}
    if any(now.get(task) != mark for task, mark in before.tasks.items()):
        return tasks
    return [task for task in tasks if str(task["id"]) in before.tasks]


def methods_of(method: Method) -> tuple[Method, ...]:
    """The methods that a run tries, in order: one version each at most."""
    return (Method.LINEAR_PROBE, Method.LP_FT) if method is Method.AUTO else (method,)


def version_names(run: Run, project: Project) -> tuple[str, ...]:
    """A version's name for each method of the run; the second gets a letter."""
    count = len(methods_of(run.request.parameters.method))
    names = (
        version_name(project, run.request.parameters.model_name, run.name, letter) for letter in ("", "b")
    )
    return tuple(names)[:count]


def published_before(run: Run, project: Project) -> tuple[Manifest, ...]:
    """Versions that an earlier process of this run has published: a crash may have come right after."""
    found = []
    for name in version_names(run, project):
        try:
            found.append(run.registry.manifest(project.key, name))
        except NotFound:
            break
    return tuple(manifest for manifest in found if manifest.lineage.run == run.name)


def as_found(manifests: tuple[Manifest, ...], said: tuple[Published, ...]) -> tuple[Published, ...]:
    """What people read of versions that exist already: as it was said when they were published, where that was written."""
    sentences = {published.version: published for published in said}
    return tuple(sentences.get(manifest.version) or as_published(manifest) for manifest in manifests)


def as_published(manifest: Manifest, pinned_to: str | None = None) -> Published:
    """What people read of a version; a pinned project serves what it is pinned to, whatever the gate says."""
    sentence = " ".join(manifest.gate.reasons)
    if pinned_to is not None:
        sentence += f" Held because the project is pinned to {pinned_to}: `fitloop unpin` lets versions through again."
    return Published(manifest.version, manifest.gate.promote, sentence)
