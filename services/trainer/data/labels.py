"""The labels of a run: the state of the label index that its request names, and the texts that Label Studio has for it.

The state is the same in each process and each attempt of a run, whatever annotators do meanwhile. Texts are in no bucket.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from services.core.domain import Counts, LabelSpace, LabelState, Project, Snapshot
from services.core.errors import BadData, BadRequest, CorruptLabels, LabelStudioNotFound, NoLabelSpace
from services.core.labels import parse_label_space, task_text
from services.core.labels.index import LabelIndex
from services.core.labels.rows import NO_SIGNATURE, label_row
from services.core.labels.segments import LabelStore
from services.trainer.process import Run


@dataclass(frozen=True, slots=True)
class RunLabels:
    """What a run trains on, without texts."""

    state: LabelState
    space: LabelSpace
    index: LabelIndex


def read_project(run: Run) -> tuple[Project, Counts]:
    """Return the project and its counts, as they are now. Raises BadRequest if the request's project does not exist any more."""
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
    return project, counts


def read_labels(run: Run, project: Project, counts: Counts) -> RunLabels:
    """Return the labels that the run was requested for. Raises BadData without a label space, BadRequest without its labels."""
    state = run.request.labels
    if state is None:
        return _read_now(run, project, counts)
    if state.space is None:
        raise _no_label_space(run, project)
    try:
        index = LabelStore(run.runs.store, run.request.project_key).load(state)
    except CorruptLabels as error:
        raise BadRequest(
            f"Run {run.name} was requested for labels that cannot be read any more: request it again. {error}"
        ) from error
    return RunLabels(state, state.space, index)


def read_texts(run: Run, labels: RunLabels) -> dict[int, str | None]:
    """Map the id of each task that may give an example to the text that it shows now, None if it shows none.

    Deleted tasks are absent. Raises BadRequest if the project is deleted, Preempted.
    """
    wanted = labels.index.rows["task"][labels.index.voting].tolist()
    try:
        with run.stop.interruptible():
            found = {}
            for task in run.labels.texts(run.request.project_id, wanted):
                run.stop.check()
                found[task["id"]] = task_text(labels.space, task.get("data"))
            return found
    except LabelStudioNotFound as error:
        raise _project_missing(run) from error


def _read_now(run: Run, project: Project, counts: Counts) -> RunLabels:
    """Read the labels for the request of an earlier release, whose leader expects a snapshot of them; the first one stays."""
    try:
        space = parse_label_space(project.label_config, run.request.parameters.control)
    except NoLabelSpace as error:
        raise BadData(str(error)) from error
    index, now = _read_index(run, space), time.time()
    labelled = int(index.labelled.sum())
    state = LabelState((), space, project.label_config_hash, index.digest, labelled, counts, now)
    if run.runs.snapshot(run.name) is None:
        marks = {str(row.task): f"{row.signature:012x}" for row in index if row.signature != NO_SIGNATURE}
        snapshot = Snapshot(marks, project.label_config_hash, space.labels, now, space.from_name)
        run.runs.write_snapshot(run.name, snapshot)
    return RunLabels(state, space, index)


def _read_index(run: Run, space: LabelSpace) -> LabelIndex:
    rows = []
    try:
        with run.stop.interruptible():
            for task in run.labels.annotated_tasks(run.request.project_id):
                run.stop.check()
                rows.append(label_row(space, task))
    except LabelStudioNotFound as error:
        raise _project_missing(run) from error
    return LabelIndex.of(row for row in rows if row is not None)


def _no_label_space(run: Run, project: Project) -> BadData:
    """Return why there was nothing to learn: the label config says so unless it has been changed since."""
    try:
        parse_label_space(project.label_config, run.request.parameters.control)
    except NoLabelSpace as error:
        return BadData(str(error))
    return BadData(f"Run {run.name} was requested for another label config: request it again.")


def _project_missing(run: Run) -> BadRequest:
    return BadRequest(
        f"Label Studio has no project {run.request.project_id}, or hides it from this token: run {run.name} cannot read "
        "its labels. If the project was deleted, there is nothing to do."
    )
