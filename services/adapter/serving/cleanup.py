"""The deletion of one project's outdated predictions in Label Studio, when nothing is to be delivered (decision 32)."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from services.adapter.serving.outdated import is_outdated
from services.core.domain import Served

_TASKS_PER_STEP: Final = 200


class CleanupSource(Protocol):
    """The part of LabelStudio that finds and deletes predictions."""

    def unlabelled_tasks(self, project_id: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return those of these tasks that have no annotation, with their predictions."""
        ...

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete one prediction, if it exists."""
        ...


@dataclass(slots=True)
class Cleanup:
    """What is to be deleted, over all deliveries of the project. One thread at a time may use it."""

    project_id: int
    outdated: dict[int, object] = field(default_factory=dict)
    """Versions of the predictions to delete, by the prediction's id."""
    unread: array[int] = field(default_factory=lambda: array("q"))
    """Tasks whose predictions were not read: they may have outdated ones."""

    @property
    def is_due(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.outdated or self.unread)

    def note_unread(self, tasks: Iterable[int]) -> None:
        """Note tasks that got a new prediction and whose other ones were not read."""
        self.unread.extend(tasks)

    def note(self, tasks: Iterable[dict[str, Any]], served: Served) -> None:
        """Note outdated predictions of these tasks. Those of labelled tasks stay: agreement is computed from them."""
        for task in tasks:
            for one in task.get("predictions") or ():
                if is_outdated(one.get("model_version"), served) and isinstance(one.get("id"), int):
                    self.outdated[one["id"]] = one["model_version"]

    def steps(self, source: CleanupSource, served: Callable[[], Served]) -> Iterator[None]:
        """Read some tasks' predictions or delete one prediction a step. Raises NotLeading, FitloopError."""
        while self.is_due:
            if self.outdated:
                self._delete_one(source, served())
            else:
                tasks = self.unread[-_TASKS_PER_STEP:]
                self.note(source.unlabelled_tasks(self.project_id, list(tasks)), served())
                del self.unread[-_TASKS_PER_STEP:]
            yield

    def _delete_one(self, source: CleanupSource, served: Served) -> None:
        number, version = next(iter(self.outdated.items()))
        if is_outdated(version, served):  # the project may serve an earlier version again
            source.delete_prediction(number)
        del self.outdated[number]
