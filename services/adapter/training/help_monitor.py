"""Keeps the records of one project up to date with what polls read, and measures what suggestions do. For a worker's thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from services.adapter.state.help import HelpMeasures
from services.adapter.training.help_measures import measure
from services.adapter.training.help_records import Made, RecordStore, made_with_predictions, merged, record
from services.core.domain import LabelSpace
from services.core.store import ObjectStore

Tasks = Sequence[Mapping[str, Any]]


class Answers(Protocol):
    """What a version answers for tasks."""

    def __call__(
        self, project_key: str, space: LabelSpace, version: str, tasks: Tasks, /
    ) -> Mapping[int, Mapping[str, Any]]:
        """Return the prediction by task that annotators would have been shown; tasks for which it is not known are missing."""
        ...


def no_answers(project_key: str, space: LabelSpace, version: str, tasks: Tasks) -> Mapping[int, Any]:  # noqa: ARG001  # the signature of Answers
    """Know of no answer."""
    return {}


@dataclass(slots=True)
class HelpMonitor:
    """The measures of one project. Nothing is read or stored while no text is blind."""

    store: ObjectStore
    share: float = 0.0
    """FITLOOP_BLIND_SHARE."""
    answers: Answers = no_answers
    value: HelpMeasures = field(init=False)

    def __post_init__(self) -> None:
        """Start without a measure."""
        self.reset()

    def reset(self) -> None:
        """Forget the measures: labels answer another question now."""
        self.value = HelpMeasures(self.share)

    def update(self, project_key: str, space: LabelSpace, tasks: Tasks, now: float) -> None:
        """Record the annotations of these tasks, and measure. Raises StoreError."""
        if not self.share:
            return
        made = made_with_predictions(space, tasks, self.share)
        store = RecordStore(self.store, project_key)
        known = store.load()
        rows = merged(known, self._records(project_key, space, made), now)
        if rows.tobytes() != known.tobytes():
            store.write(rows)
        self.value = measure(rows, self.share, now)

    def _records(
        self, project_key: str, space: LabelSpace, made: Sequence[Made]
    ) -> list[tuple[int, int, int, float, float, int, int]]:
        blind: dict[str, list[Mapping[str, Any]]] = {}
        for one in made:
            if one.blind:
                blind.setdefault(str(one.prediction.get("model_version")), []).append(one.task)
        answers = {
            version: self.answers(project_key, space, version, tasks) for version, tasks in blind.items()
        }
        return [record(space, one, _answer(one, answers)) for one in made]


def _answer(made: Made, answers: Mapping[str, Mapping[int, Mapping[str, Any]]]) -> Mapping[str, Any] | None:
    if not made.blind:
        return made.prediction
    return answers[str(made.prediction.get("model_version"))].get(int(made.task["id"]))
