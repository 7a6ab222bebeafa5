"""Delivers a version to one project in Label Studio: predictions of unlabelled tasks, and the backend's title.

Label Studio's uncertainty sampling sees only predictions whose version is the backend's title. A version whose run predicted the
unlabelled tasks is delivered in three parts: the most uncertain tasks, which annotators get next, then the title, then the rest. A
predictor is asked only for tasks that were imported or edited since. Any other version's predictions are all computed on demand,
and the title follows them. Tasks that have a prediction of the version are skipped, so repeating a delivery pushes what is missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

import structlog

from services.adapter.metrics import leader_metrics
from services.adapter.serving.cleanup import Cleanup
from services.adapter.serving.delivery_ports import DeliveryPorts, NoLongerWanted
from services.adapter.serving.label_studio import (
    RefreshJob,
    RefreshProgress,
    TitleResult,
    refused_message,
    set_title,
    unusable_message,
)
from services.adapter.serving.own_answers import ask_class
from services.adapter.serving.pushes import push_predictions
from services.adapter.serving.stored import StoredPredictions, Text, readable_texts
from services.adapter.suggestions import build_prediction, conceal, is_blind
from services.core.domain import Served
from services.core.errors import CorruptVersion, NotFound, UnknownFormat
from services.mlbackend.calls import TASKS_PER_CALL

log = structlog.get_logger()
CHUNK: Final = 200
"""Tasks that are read, scored and pushed at a time: annotators' own requests come in between."""
FIRST: Final = 500
"""Stored predictions that are pushed before the title, and at a time."""
NEXT: Final = 50
"""The first batch: annotators get the most uncertain tasks next, and Label Studio takes half a second to store 500 predictions."""


@dataclass(slots=True)
class Delivery:
    """The delivery of one job. One thread at a time may use it; any may read `progress`."""

    job: RefreshJob
    ports: DeliveryPorts
    is_wanted: Callable[[], bool]
    """Asked before each request, which may take long. Raises NotLeading."""
    cleanup: Cleanup
    progress: RefreshProgress = field(init=False)
    title: TitleResult | None = None
    """The last result of setting the title."""
    _unlabelled: int = 0
    """Tasks without an annotation, when they were counted."""
    _stored: StoredPredictions | None = None
    _is_evaluated: bool = True
    _unusable: str = ""
    """Why what the run predicted cannot be used."""
    _handled: set[int] = field(default_factory=set)
    """Tasks that need nothing more in this delivery."""

    def __post_init__(self) -> None:
        self.progress = RefreshProgress(self.job)

    def steps(self) -> Iterator[None]:
        """Push what is missing, and set the title; a step takes seconds. Raises NoLongerWanted, FitloopError."""
        self._forget_attempt()
        if not self.job.title_only and self.ports.serving.refresh_max_tasks:
            self._begin()
            yield from self._push_stored()
            yield from self._push_missing()
        self._finish(self.title or self.set_title())

    def set_title(self) -> TitleResult:
        """Set the title, if it is another. Raises NoLongerWanted, FitloopError."""
        self._check_wanted()
        job, ports = self.job, self.ports
        self.title = set_title(ports.source, ports.auth, job.project_id, job.seen_url, job.version)
        return self.title

    def delete_outdated(self) -> Iterator[None]:
        """Delete outdated predictions, one a step. Raises NoLongerWanted, FitloopError."""
        for _ in self.cleanup.steps(self.ports.source, self._served_if_wanted):
            yield
        log.info("outdated_predictions_deleted", project=self.job.project_id)

    def update(self, **changes: Any) -> None:
        """Change the progress."""
        self.progress = replace(self.progress, **changes)

    def _forget_attempt(self) -> None:
        self.title, self._stored, self._unusable, self._handled = None, None, "", set()

    def _begin(self) -> None:
        self._check_wanted()
        count = self.ports.source.count_unlabelled(self.job.project_id)
        self.update(total=min(self.ports.serving.refresh_max_tasks, count), pushed=0, refused=0)
        self._unlabelled = count
        self._is_evaluated = False  # until it is known
        try:
            self._is_evaluated = self.ports.is_evaluated(self.job)
            self._stored = self.ports.stored(self.job)
        except (CorruptVersion, NotFound, UnknownFormat) as error:
            self._unusable = str(error)
            log.error("stored_predictions_unusable", version=self.job.version, reason=str(error))

    def _push_stored(self) -> Iterator[None]:
        """Push stored predictions, the most uncertain first, and set the title after the first ones."""
        stored, most = self._stored, self.ports.serving.refresh_max_tasks
        if stored is None:
            return
        space = self.job.space
        is_bulk = space is None or (
            space.paths is None or space.control_tag != "Choices"
        )  # nested choices are pushed one by one
        size = FIRST if is_bulk else CHUNK
        limit = min(len(stored), most)
        ends = sorted({min(NEXT, limit), *range(size, limit, size), limit})
        for start, stop in pairwise([0, *ends]):
            yield from self._push_batch(stored, stored.tasks(start, stop))
            if self.title is None and stop >= min(FIRST, self.progress.total or 0):
                self.set_title()
                yield

    def _push_batch(self, stored: StoredPredictions, ids: Sequence[int]) -> Iterator[None]:
        """Push what can be pushed without reading predictions, which takes Label Studio three times as long as ids and texts."""
        self._check_wanted()
        source, job = self.ports.source, self.job
        tasks = source.unpredicted_tasks(job.project_id, job.version, ids)
        assert job.space is not None  # noqa: S101  # runs store predictions of texts only
        predictions, _ = stored.answer(job.space, tasks, self.ports.serving.blind_share)
        self._push(predictions, "run")
        pushed = [prediction["task"] for prediction in predictions]
        if self.ports.serving.delete_old_predictions:
            self.cleanup.note_unread(pushed)
        yield
        certain = {task["id"] for task in tasks}
        others = [
            task for task in ids if task not in certain
        ]  # of them most are labelled, deleted or predicted
        for start in range(0, len(others), CHUNK):
            self._push_chunk(others[start : start + CHUNK])
            yield
        self._handled.update(pushed, others)

    def _push_missing(self) -> Iterator[None]:
        """Push what has no stored prediction, or was not read yet."""
        source, project_id = self.ports.source, self.job.project_id
        pages, seen = source.unlabelled_ids(project_id), 0
        while self._room() > 0 and seen < self._unlabelled:
            self._check_wanted()
            page = next(pages, None)
            if page is None:
                return
            seen += len(page)
            ids = [task for task in page if task not in self._handled]
            for start in range(0, len(ids), CHUNK):
                if self._room() > 0:
                    self._push_chunk(ids[start : start + CHUNK])
                    yield

    def _room(self) -> int:
        """Return how many tasks may still get a prediction."""
        return max(0, self.ports.serving.refresh_max_tasks - self.progress.pushed - self.progress.refused)

    def _push_chunk(self, ids: Sequence[int]) -> None:
        self._check_wanted()
        source, job = self.ports.source, self.job
        tasks = source.unlabelled_tasks(job.project_id, ids)
        if self.ports.serving.delete_old_predictions:
            self.cleanup.note(tasks, self.ports.served(job))
        lacking = [task for task in tasks if not _has_prediction(task, job.version)]
        self.update(pushed=self.progress.pushed + len(tasks) - len(lacking))
        if job.own_model_config or job.space is None:
            self._push_answers(lacking[: self._room()])
            return
        if self._stored is None:
            texts = readable_texts(job.space, lacking)
        else:
            known, texts = self._stored.answer(job.space, lacking, self.ports.serving.blind_share)
            self._push(known[: self._room()], "run")
        if texts := texts[: self._room()]:
            self._check_wanted()
            self._push(asyncio.run(self._predict(texts)), "predictor")

    def _push_answers(self, tasks: Sequence[dict[str, Any]]) -> None:
        """Have the version's class answer these tasks."""
        for start in range(0, len(tasks), TASKS_PER_CALL):
            self._check_wanted()
            some = tasks[start : start + TASKS_PER_CALL]
            self._push(asyncio.run(ask_class(self.ports.inference, self.job, some)), "predictor")

    async def _predict(self, tasks: Sequence[Text]) -> list[dict[str, Any]]:
        job, share, is_evaluated = self.job, self.ports.serving.blind_share, self._is_evaluated
        scores = await self.ports.inference.scores(job.project_key, job.version, [text for _, text in tasks])
        assert job.space is not None  # noqa: S101  # as above
        found = []
        for row, (task, text) in enumerate(tasks):
            if prediction := build_prediction(job.space, scores, row, job.version, is_evaluated=is_evaluated):
                shown = conceal(prediction) if is_blind(text, share) else prediction
                found.append({"task": task, **shown})
        return found

    def _push(self, predictions: Sequence[dict[str, Any]], source: leader_metrics.SuggestionSource) -> None:
        """Store predictions, and count them."""
        if not predictions:
            return
        self._check_wanted()  # predicting may have taken long
        job = self.job
        refused = push_predictions(
            self.ports.source, job.project_id, job.version, predictions, self.is_wanted
        )
        self._check_wanted()
        stored = len(predictions) - refused
        leader_metrics.count_suggestions(job.project_id, source, stored)
        self.update(pushed=self.progress.pushed + stored, refused=self.progress.refused + refused)

    def _finish(self, title: TitleResult) -> None:
        job, refused = self.job, self.progress.refused
        problems = (unusable_message(job, self._unusable), refused_message(job, refused), title.problem)
        self._stored, self._handled = None, set()
        self.update(done=True, problem=" ".join(filter(None, problems)))
        if title.problem:
            log.warning("backend_not_recognised", project=job.project_id, reason=title.problem)
        if refused:
            log.warning("predictions_refused", project=job.project_id, version=job.version, count=refused)
        log.info("refreshed", project=job.project_id, version=job.version)

    def _served_if_wanted(self) -> Served:
        self._check_wanted()
        return self.ports.served(self.job)

    def _check_wanted(self) -> None:
        if not self.is_wanted():
            raise NoLongerWanted


def _has_prediction(task: dict[str, Any], version: str) -> bool:
    return any(one.get("model_version") == version for one in task.get("predictions") or ())
