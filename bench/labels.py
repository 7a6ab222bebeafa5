"""A Label Studio in memory, for benchmarks of the trainer alone: labelled tasks, as the API returns them."""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.rig import base
from demo.annotator import label_config
from services.core.domain import Counts, LabelState, Method, Parameters, Project, RunRequest
from services.core.labels import label_config_hash, parse_label_space
from services.core.labels.index import LabelIndex
from services.core.labels.rows import label_row
from services.core.labels.segments import LabelStore
from services.core.registry import Registry
from services.core.runs import Runs
from services.core.store import ObjectStore, open_store
from services.trainer.process import Run
from services.trainer.process.lifecycle import Stop
from services.trainer.process.progress import Progress, first_status

_STAMP = "2026-11-23T22:35:54.338274Z"


@dataclass(frozen=True, slots=True)
class Labels:
    """The part of Label Studio's API that a run uses: `services.trainer.process.LabelSource`."""

    labelled: Sequence[tuple[str, str]]
    intents: Sequence[str]

    def project(self, project_id: int) -> tuple[Project, Counts]:
        config, texts = label_config(self.intents), len(self.labelled)
        project = Project("1-1", project_id, "Bench", config, label_config_hash(config), _STAMP)
        return project, Counts(texts, texts, 0, _STAMP, texts)

    def texts(self, project_id: int, tasks: Collection[int]) -> Iterator[dict[str, Any]]:  # noqa: ARG002 - of the Protocol
        for task in tasks:
            yield {"id": task, "data": {"text": self.labelled[task - 1][0]}}

    def annotated_tasks(self, project_id: int) -> Iterator[dict[str, Any]]:
        for number, (text, label) in enumerate(self.labelled, 1):
            region = {
                "from_name": "intent",
                "to_name": "text",
                "type": "choices",
                "value": {"choices": [label]},
            }
            annotation = {
                "id": number,
                "result": [region],
                "was_cancelled": False,
                "ground_truth": False,
                "created_at": _STAMP,
                "updated_at": _STAMP,
                "completed_by": 1,
            }
            yield {"id": number, "project": project_id, "data": {"text": text}, "annotations": [annotation]}

    def unlabelled_pages(self, *_: object) -> Iterator[list[dict[str, Any]]]:
        yield []

    def unlabelled_texts(self, *_: object) -> list[dict[str, Any]]:
        return []

    def all_unlabelled_ids(self, *_: object) -> Iterator[list[int]]:
        yield []


@contextlib.contextmanager
def new_run(
    texts: Sequence[tuple[str, str]], intents: Sequence[str], parameters: Parameters | None = None
) -> Iterator[Run]:
    """Return a run over these labels, with its own temporary store and without checkpoints within the hour."""
    with tempfile.TemporaryDirectory(prefix="fitloop-bench-") as folder:
        store = open_store(Path(folder).as_uri())
        runs, wanted = Runs(store), parameters or Parameters(Method.AUTO, str(base()))
        labels = Labels(texts, intents)
        request = RunRequest("1-1", "1-1", 1, "bench", wanted, time.time(), labels=_stored(store, labels))
        runs.write(request)
        with Progress(runs, first_status(runs, "1-1")) as progress:
            yield Run(request, runs, Registry(store), labels, progress, Stop(), 3_600.0)


def _stored(store: ObjectStore, labels: Labels) -> LabelState:
    """Store the label index, as the leader does before it requests a run, and return its state."""
    project, counts = labels.project(1)
    space = parse_label_space(project.label_config)
    rows = (label_row(space, task) for task in labels.annotated_tasks(1))
    index = LabelIndex.of(row for row in rows if row)
    state = LabelState((), space, project.label_config_hash, "", 0, counts, time.time())
    return LabelStore(store, project.key).write(state, index)
