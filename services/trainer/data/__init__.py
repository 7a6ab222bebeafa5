"""What a run reads: the project and its labels from Label Studio, and the base model.

The parameters of training come from request.json and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from services.core import documents
from services.core.domain import LabelSpace, Method, Parameters, Project, Snapshot
from services.core.errors import BadData, BadRequest, LabelStudioNotFound, NoLabelSpace
from services.core.labels import parse_label_space, signature
from services.trainer.data.dataset import Dataset, build_dataset, check_trainable
from services.trainer.process import Run

if TYPE_CHECKING:
    from services.trainer.data.base_model import BaseModel


@dataclass(frozen=True, slots=True)
class RunInputs:
    """What versions are made of."""

    project: Project
    space: LabelSpace
    base: BaseModel
    dataset: Dataset

    def fingerprint(self, method: Method, parameters: Parameters) -> str:
        """Return a hash that changes with everything the weights of a method depend on."""
        examples = [(example.key, example.label) for example in self.dataset.examples]
        settings = documents.to_plain(replace(parameters, model_name=None))
        everything = [method, self.base.digest, settings, self.dataset.labels, examples]
        return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def read_project(run: Run) -> tuple[Project, LabelSpace, int]:
    """Return the project, its label space and the count of skipped annotations, as they are now.

    Raises BadRequest if the project of the request does not exist any more.
    """
    try:
        with run.stop.interruptible():
            project, counts = run.labels.project(run.request.project_id)
    except LabelStudioNotFound as error:
        raise _project_missing(run) from error
    if project.key != run.request.project_key:
        raise BadRequest(
            f"Project {project.id} is not the one that run {run.name} was requested for ({project.key}, not "
            f"{run.request.project_key}): that one was deleted and its id used again."
        )
    try:
        space = parse_label_space(project.label_config, run.request.parameters.control)
    except NoLabelSpace as error:
        raise BadData(str(error)) from error
    return project, space, counts.skipped


def read_dataset(
    run: Run, project: Project, space: LabelSpace, *, skipped: int, resuming: bool, published: bool
) -> Dataset:
    """Read texts and labels; write their snapshot first, so that the trigger knows it even if they cannot be trained on.

    A run that resumes from a checkpoint, or has a version, uses the labels that it read before as long as none of them has
    changed. Once it has a version the snapshot stays as it is: no version has been trained on what came later.
    Other ranks read the snapshot that rank 0 has written. Raises BadData, BadRequest, Preempted.
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


def as_before(tasks: list[dict[str, Any]], before: Snapshot) -> list[dict[str, Any]]:
    """Return the tasks of the snapshot if none of them has changed, else all tasks."""
    now = {str(task["id"]): signature(task.get("annotations") or ()) for task in tasks}
    if any(now.get(task) != mark for task, mark in before.tasks.items()):
        return tasks
    return [task for task in tasks if str(task["id"]) in before.tasks]


def _read_tasks(run: Run) -> list[dict[str, Any]]:
    tasks = []
    try:
        with run.stop.interruptible():
            for task in run.labels.annotated_tasks(run.request.project_id):
                run.stop.check()
                tasks.append(task)
    except LabelStudioNotFound as error:
        raise _project_missing(run) from error
    return tasks


def _project_missing(run: Run) -> BadRequest:
    return BadRequest(
        f"Label Studio has no project {run.request.project_id}, or hides it from this token: run {run.name} cannot read "
        "its labels. If the project was deleted, there is nothing to do."
    )
