"""After a promotion or a rollback: fresh predictions for the unlabelled tasks, then the backend's title.

Label Studio's uncertainty sampling sees only predictions whose version is the backend's title, so the title comes last.
One thread works on one project at a time; the newest version of a project wins, a version that no longer serves is
given up, and trouble is retried with back-off. Tasks that hold a prediction of the version are passed over, so doing
it again, after a restart or new tasks, pushes only what is missing. A new title is looked at once more: Label Studio
may have put the old one back.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Protocol

import structlog

from services.adapter.ports import Inference
from services.adapter.serving import label_studio
from services.adapter.serving.label_studio import (
    BackendSource,
    RefreshJob,
    RefreshProgress,
    TitleResult,
    refused_sentence,
    set_title,
)
from services.adapter.suggestions import build, readable
from services.adapter.training.label_reader import Backoff
from services.core.errors import FitloopError
from services.core.settings import AuthSettings
from services.core.telemetry import correlation
from services.core.telemetry.correlation import bind_ids
from services.core.telemetry.tracebacks import safe_traceback
from services.core.telemetry.tracebacks import unexpected_error_sentence as sentence_of

log = structlog.get_logger()
CHUNK = 200
"""Texts that are scored and pushed at a time: annotators' own requests come in between."""
_IDLE_SECONDS = 0.5
_STOP_SECONDS = 10.0
RECHECK_SECONDS = 10.0
"""After a title was set. Whenever Label Studio asks for our state (a task is opened, its settings are), it reads the backend's
row, calls /health and /setup, and then saves the whole row: with the old title, where ours came in between."""


class RefreshSource(BackendSource, label_studio.PredictionSink, Protocol):
    """The part of LabelStudio that a refresh speaks to."""

    def unlabelled_tasks(self, project_id: int) -> Iterator[dict[str, Any]]:
        """Tasks that nobody has labelled."""
        ...

    def predicted_tasks(self, project_id: int, version: str) -> set[int]:
        """Those that hold a prediction of that version."""
        ...


@dataclass(slots=True)
class _JobQueue:
    """The newest job of each project, and when it may be tried."""

    progress: dict[int, RefreshProgress] = field(default_factory=dict)
    backoff: dict[int, Backoff] = field(default_factory=dict)
    recheck_at: dict[int, float] = field(default_factory=dict)
    """When the title of a project is looked at again."""


class Refresher:
    """Keeps Label Studio's predictions and titles up with what is served."""

    def __init__(
        self,
        source: RefreshSource,
        inference: Inference,
        auth: AuthSettings,
        max_tasks: int,
        is_current: Callable[[RefreshJob], bool],
        clock: Callable[[], float],
    ) -> None:
        """Nothing runs until `start`. `is_current`: whether a job's version still serves; raises where that is not ours to say."""
        self._source = source
        self._inference = inference
        self._auth = auth
        self._max_tasks = max_tasks
        self._is_current = is_current
        self._clock = clock
        self._queue = _JobQueue()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work in a thread of its own."""
        self._thread = threading.Thread(target=self._loop, name="refresh", daemon=True)
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """Give up what is being done; another refresher begins it again. `wait`: until the thread has ended."""
        self._stop.set()
        self._wake.set()
        if self._thread and wait:
            self._thread.join(_STOP_SECONDS)

    def submit(self, job: RefreshJob) -> None:
        """Do this job in place of the project's earlier one; nothing happens where it is the same."""
        with self._lock:
            known = self._queue.progress.get(job.project_id)
            if known and known.job == job:
                return
            self._queue.progress[job.project_id] = RefreshProgress(job)
            self._queue.backoff[job.project_id] = Backoff()
        self._wake.set()

    def progress(self, project_id: int) -> RefreshProgress | None:
        """Of the project's newest job."""
        return self._queue.progress.get(project_id)

    def run_due_job(self, now: float) -> bool:
        """Do one job that is due; whether there was one."""
        with self._lock:
            open_jobs = [known for known in self._queue.progress.values() if not known.done]
            due = [known for known in open_jobs if self._queue.backoff[known.job.project_id].until <= now]
        for known in due[:1]:
            # With an id of its own, by which its requests are found among the predictors' lines.
            with bind_ids(
                project=known.job.project_id,
                version=known.job.version,
                request_id=correlation.new_request_id(),
            ):
                self._run_job(known)
        return bool(due) or self._recheck_title(now)

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                busy = self.run_due_job(self._clock())
            except Exception as error:  # noqa: BLE001  # the thread that all projects share must not end
                log.error("refresh_error", frames=safe_traceback(error))
                busy = False
            if not busy:
                self._wake.wait(_IDLE_SECONDS)
                self._wake.clear()

    def _run_job(self, known: RefreshProgress) -> None:
        job, began = known.job, self._clock()
        try:
            if not self._is_wanted(known):
                self._abandon(known)
            elif job.title_only or self._push(known):
                self._finish(known, self._set_title(job).problem)
        except FitloopError as error:
            self._failed(known, str(error), began)
        except Exception as error:  # noqa: BLE001  # a slip of ours: other projects' jobs come all the same
            log.error("refresh_error", frames=safe_traceback(error))
            self._failed(known, sentence_of(error), began)

    def _finish(self, known: RefreshProgress, untitled: str) -> None:
        job = known.job
        newest = self._queue.progress.get(job.project_id)
        left = newest.refused if newest and newest.job == job else 0
        self._update(
            known, done=True, problem=" ".join(filter(None, (refused_sentence(job, left), untitled)))
        )
        if untitled:
            log.warning("backend_not_recognised", project=job.project_id, reason=untitled)
        if left:
            log.warning("predictions_refused", project=job.project_id, version=job.version, count=left)
        log.info("refreshed", project=job.project_id, version=job.version)

    def _set_title(self, job: RefreshJob) -> TitleResult:
        """Set the title; where it was another one it is looked at again."""
        renamed = set_title(self._source, self._auth, job.project_id, job.seen_url, job.version)
        if renamed.changed:
            self._queue.recheck_at[job.project_id] = self._clock() + RECHECK_SECONDS
        return renamed

    def _recheck_title(self, now: float) -> bool:
        """At one title that was set a while ago; whether there was one."""
        project = next((number for number, at in self._queue.recheck_at.items() if at <= now), None)
        if project is None:
            return False
        del self._queue.recheck_at[project]
        known = self.progress(project)
        if known and known.done:
            self._check_title(known.job)
        return True

    def _check_title(self, job: RefreshJob) -> None:
        try:
            if self._is_current(job) and self._set_title(job).changed:
                log.info("title_restored", project=job.project_id, version=job.version)
        except FitloopError as error:
            self._queue.recheck_at[job.project_id] = self._clock() + RECHECK_SECONDS
            log.warning("title_check_failed", project=job.project_id, reason=str(error))

    def _failed(self, known: RefreshProgress, reason: str, began: float) -> None:
        """Wait for as long as it took: what was pushed and not answered may still be stored, and would be pushed twice."""
        job, took = known.job, self._clock() - began
        with self._lock:
            delay = self._queue.backoff[job.project_id].failed(began, took)
        self._update(known, problem=f"Suggestions of {job.version} could not be refreshed: {reason}")
        log.warning(
            "refresh_failed", project=job.project_id, version=job.version, reason=reason, retry_seconds=delay
        )

    def _push(self, known: RefreshProgress) -> bool:
        """Predict what lacks a prediction; whether the version still serves at the end."""
        job = known.job
        tasks = self._tasks_without_prediction(job)
        self._update(known, total=len(tasks), pushed=0, refused=0)
        left = 0
        with asyncio.Runner() as runner:
            for start in range(0, len(tasks), CHUNK):
                if not self._is_wanted(known):
                    return self._abandon(known)
                predictions = runner.run(self._predict(job, tasks[start : start + CHUNK]))
                if not self._is_wanted(known):  # predicting may have taken long
                    return self._abandon(known)
                left += label_studio.push_predictions(
                    self._source,
                    job.project_id,
                    job.version,
                    predictions,
                    lambda: self._is_wanted(known),
                )
                self._update(known, pushed=min(start + CHUNK, len(tasks)) - left, refused=left)
        return self._is_wanted(known) or self._abandon(known)

    def _tasks_without_prediction(self, job: RefreshJob) -> list[tuple[int, str]]:
        """Ids and texts of unlabelled tasks without a prediction of the version."""
        if self._max_tasks == 0 or job.title_only:
            return []
        have = self._source.predicted_tasks(job.project_id, job.version)
        lack = (task for task in self._source.unlabelled_tasks(job.project_id) if task["id"] not in have)
        texts = ((int(task["id"]), readable(job.space, task)) for task in lack)
        with_text = ((task, text) for task, text in texts if text is not None)
        return list(islice(with_text, max(0, self._max_tasks - len(have))))

    async def _predict(self, job: RefreshJob, tasks: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
        scores = await self._inference.scores(job.project_key, job.version, [text for _, text in tasks])
        found = ((task, build(job.space, scores, row, job.version)) for row, (task, _) in enumerate(tasks))
        return [{"task": task, **prediction} for task, prediction in found if prediction is not None]

    def _is_wanted(self, known: RefreshProgress) -> bool:
        newest = self._queue.progress.get(known.job.project_id)
        return (
            not self._stop.is_set()
            and newest is not None
            and newest.job == known.job
            and self._is_current(known.job)
        )

    def _abandon(self, known: RefreshProgress) -> bool:
        """Forget a job whose version no longer serves, unless a newer one stands in its place already."""
        with self._lock:
            newest = self._queue.progress.get(known.job.project_id)
            if newest and newest.job == known.job:
                del self._queue.progress[known.job.project_id]
        return False

    def _update(self, known: RefreshProgress, **changes: Any) -> None:
        with self._lock:
            newest = self._queue.progress.get(known.job.project_id)
            if newest and newest.job == known.job:
                self._queue.progress[known.job.project_id] = replace(newest, **changes)
