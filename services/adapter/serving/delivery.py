"""Delivers a version to one project in Label Studio: predictions of unlabelled tasks, the backend's title, then the deletion of
outdated predictions.

Label Studio's uncertainty sampling sees only predictions whose version is the backend's title, so the title follows them. The most
uncertain tasks come first: annotators get those next. Tasks that have a prediction of the version are skipped, so repeating a
delivery pushes only what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

import structlog

from services.adapter.ports import Inference
from services.adapter.serving.label_studio import (
    BackendSource,
    PredictionSink,
    RefreshJob,
    RefreshProgress,
    TitleResult,
    push_predictions,
    refused_message,
    set_title,
)
from services.adapter.serving.outdated import is_outdated
from services.adapter.suggestions import build_prediction, readable_text
from services.core.domain import Served
from services.core.settings import AuthSettings, ServingSettings

log = structlog.get_logger()
CHUNK: Final = 200
"""Tasks that are read, scored and pushed at a time: annotators' own requests come in between."""


class RefreshSource(BackendSource, PredictionSink, Protocol):
    """The part of LabelStudio that a refresh uses."""

    def count_unlabelled(self, project_id: int) -> int:
        """Return how many tasks have no annotation."""
        ...

    def unlabelled_ids(self, project_id: int) -> Iterator[list[int]]:
        """Yield their ids, the most uncertain first; each list is one request."""
        ...

    def unlabelled_tasks(self, project_id: int, tasks: Sequence[int]) -> list[dict[str, Any]]:
        """Return those of these tasks that have no annotation, with their predictions."""
        ...

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete one prediction, if it exists."""
        ...


class NoLongerWanted(Exception):
    """The version is no longer in effect, another job replaced this one, or this process stops."""


@dataclass(frozen=True, slots=True)
class DeliveryPorts:
    """What all deliveries share."""

    source: RefreshSource
    inference: Inference
    auth: AuthSettings
    serving: ServingSettings
    served: Callable[[RefreshJob], Served]
    """What the job's project serves. Raises NotLeading."""


@dataclass(slots=True)
class Delivery:
    """The delivery of one job. One thread at a time may use it; any may read `progress`."""

    job: RefreshJob
    ports: DeliveryPorts
    is_wanted: Callable[[], bool]
    """Asked before each request, which may take long. Raises NotLeading."""
    outdated: dict[int, str] = field(default_factory=dict)
    """Versions of predictions to be deleted, by the prediction's id."""
    progress: RefreshProgress = field(init=False)
    title_changed: bool = False
    """Whether the backend had another title."""

    def __post_init__(self) -> None:
        self.progress = RefreshProgress(self.job)

    def steps(self) -> Iterator[None]:
        """Push what is missing, then set the title; a step takes seconds. Raises NoLongerWanted, FitloopError."""
        if not self.job.title_only and self.ports.serving.refresh_max_tasks:
            yield from self._push_missing()
        self._finish(self.set_title())

    def set_title(self) -> TitleResult:
        """Set the title, if it is another. Raises NoLongerWanted, FitloopError."""
        self._check_wanted()
        job, ports = self.job, self.ports
        return set_title(ports.source, ports.auth, job.project_id, job.seen_url, job.version)

    def delete_outdated(self) -> Iterator[None]:
        """Delete outdated predictions, one a step. Raises NoLongerWanted, FitloopError."""
        while self.outdated:
            self._check_wanted()
            number, version = next(iter(self.outdated.items()))
            if is_outdated(version, self.ports.served(self.job)):
                self.ports.source.delete_prediction(number)
            del self.outdated[number]
            yield
        log.info("outdated_predictions_deleted", project=self.job.project_id)

    def update(self, **changes: Any) -> None:
        """Change the progress."""
        self.progress = replace(self.progress, **changes)

    def _push_missing(self) -> Iterator[None]:
        self._check_wanted()
        source, project_id = self.ports.source, self.job.project_id
        count, seen = source.count_unlabelled(project_id), 0
        total = min(self.ports.serving.refresh_max_tasks, count)
        self.update(total=total, pushed=0, refused=0)
        pages = source.unlabelled_ids(project_id)
        while self._room() > 0 and seen < count:
            self._check_wanted()
            page = next(pages, None)
            if page is None:
                return
            seen += len(page)
            for start in range(0, len(page), CHUNK):
                if self._room() > 0:
                    self._push_chunk(page[start : start + CHUNK])
                    yield

    def _room(self) -> int:
        """Return how many tasks may still get a prediction."""
        return self.ports.serving.refresh_max_tasks - self.progress.pushed - self.progress.refused

    def _push_chunk(self, ids: Sequence[int]) -> None:
        self._check_wanted()
        source, job = self.ports.source, self.job
        tasks = source.unlabelled_tasks(job.project_id, ids)
        self._note_outdated(tasks)
        lacking = [task for task in tasks if not _has_prediction(task, job.version)]
        self.update(pushed=self.progress.pushed + len(tasks) - len(lacking))
        texts = [(int(task["id"]), text) for task in lacking if (text := readable_text(job.space, task))]
        texts = texts[: max(self._room(), 0)]
        if not texts:
            return
        self._check_wanted()
        predictions = asyncio.run(self._predict(texts))
        self._check_wanted()  # predicting may have taken long
        refused = push_predictions(source, job.project_id, job.version, predictions, self.is_wanted)
        self._check_wanted()
        progress = self.progress
        self.update(pushed=progress.pushed + len(predictions) - refused, refused=progress.refused + refused)

    def _note_outdated(self, tasks: Sequence[dict[str, Any]]) -> None:
        """Note outdated predictions of these tasks. Those of labelled tasks stay: agreement is computed from them."""
        if not self.ports.serving.delete_old_predictions:
            return
        served = self.ports.served(self.job)
        for task in tasks:
            for one in task.get("predictions") or ():
                if is_outdated(one.get("model_version"), served) and isinstance(one.get("id"), int):
                    self.outdated[one["id"]] = one["model_version"]

    async def _predict(self, tasks: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
        job = self.job
        scores = await self.ports.inference.scores(job.project_key, job.version, [text for _, text in tasks])
        found = (
            (task, build_prediction(job.space, scores, row, job.version))
            for row, (task, _) in enumerate(tasks)
        )
        return [{"task": task, **prediction} for task, prediction in found if prediction is not None]

    def _finish(self, title: TitleResult) -> None:
        job, refused = self.job, self.progress.refused
        problems = (refused_message(job, refused), title.problem)
        self.title_changed = title.changed
        self.update(done=True, problem=" ".join(filter(None, problems)))
        if title.problem:
            log.warning("backend_not_recognised", project=job.project_id, reason=title.problem)
        if refused:
            log.warning("predictions_refused", project=job.project_id, version=job.version, count=refused)
        log.info("refreshed", project=job.project_id, version=job.version)

    def _check_wanted(self) -> None:
        if not self.is_wanted():
            raise NoLongerWanted


def _has_prediction(task: dict[str, Any], version: str) -> bool:
    return any(one.get("model_version") == version for one in task.get("predictions") or ())
