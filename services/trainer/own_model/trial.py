"""A first look at a version of a class of the operator's: it answers some tasks of the project, as it will once it is served."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Protocol

from services.core.domain import NOT_EVALUATED, Estimate, GateDecision
from services.core.errors import BadData
from services.mlbackend.process import WorkerProcess

TASKS: Final = 20
"""Tasks of the smoke test."""


class TaskSource(Protocol):
    """What a run of a class of the operator's reads from Label Studio."""

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """Make a request, and return the JSON."""
        ...

    def annotated_tasks(self, project_id: int, since: str | None = None) -> Iterator[dict[str, Any]]:
        """Yield the tasks with annotations, or all that changed since."""
        ...

    def unlabelled_pages(
        self, project_id: int, since: str = "", below: int = 0
    ) -> Iterator[list[dict[str, Any]]]:
        """Yield the tasks without annotations, the newest first."""
        ...


@dataclass(frozen=True, slots=True)
class Trial:
    """How the version answered."""

    tasks: int
    answered: int
    """Tasks with a prediction."""
    seconds_per_task: float
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason → results that do not fit the label config."""

    @property
    def fits(self) -> bool:
        """Whether it was not the case that all that it answered was dropped."""
        return bool(self.answered) or not any(self.dropped.values())

    def in_words(self) -> str:
        """Return `smoke-tested on 20 tasks: 18 with a prediction, 12 ms each`."""
        noun = "task" if self.tasks == 1 else "tasks"
        text = (
            f"smoke-tested on {self.tasks} {noun}: {self.answered} with a prediction, "
            f"{1000 * self.seconds_per_task:.0f} ms each"
        )
        lost = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dropped.items()) if count)
        return f"{text}; dropped, because it does not fit the label config: {lost}" if lost else text


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is known of a new version."""

    trial: Trial
    decision: GateDecision
    estimate: Estimate = NOT_EVALUATED


def sample_tasks(source: TaskSource, project_id: int) -> list[dict[str, Any]]:
    """Return tasks of the project, the newest without annotation first. Raises BadData if there is none."""
    page = next(source.unlabelled_pages(project_id), [])[:TASKS]
    if len(page) < TASKS:
        page = [*page, *islice(source.annotated_tasks(project_id), TASKS - len(page))]
    if not page:
        raise BadData("The project has no task to try the new version on: import some.")
    return [plain_task(project_id, row) for row in page]


def plain_task(project_id: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a task as Label Studio sends one without annotations."""
    return {"id": row["id"], "data": row["data"], "annotations": [], "predictions": [], "project": project_id}


def try_out(worker: WorkerProcess, tasks: Sequence[Mapping[str, Any]]) -> Trial:
    """Have a loaded version answer these tasks. Raises ModelClassError."""
    began = time.perf_counter()
    found = worker.predict(tasks)
    seconds = (time.perf_counter() - began) / len(tasks)
    answered = sum(bool(predictions) for predictions in found.predictions)
    return Trial(
        len(tasks), answered, seconds, {name: count for name, count in found.dropped.items() if count}
    )
