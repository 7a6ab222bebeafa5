"""The label state of a project, as the leader writes it before it requests a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.core.domain import Counts, LabelState
from services.core.errors import NoLabelSpace
from services.core.labels import parse_label_space
from services.core.labels.index import LabelIndex
from services.core.labels.rows import label_row
from services.core.labels.segments import LabelStore
from services.core.store import ObjectStore

if TYPE_CHECKING:
    from services.trainer.process import LabelSource

EMPTY_STATE = LabelState((), None, "hash", "", 0, Counts(0, 0, 0, ""))


def write_label_state(
    store: ObjectStore, labels: LabelSource, project_id: int = 1, control: str | None = None
) -> LabelState:
    """Read all labels of a project, store their index and return its state."""
    project, counts = labels.project(project_id)
    try:
        space = parse_label_space(project.label_config, control)
    except NoLabelSpace:
        space = None
    rows = (label_row(space, task) for task in labels.annotated_tasks(project_id))
    index = LabelIndex.of(row for row in rows if row)
    state = LabelState((), space, project.label_config_hash, "", 0, counts, 1.0)
    return LabelStore(store, project.key).write(state, index)
