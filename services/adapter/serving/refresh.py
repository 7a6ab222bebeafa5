"""After a promotion or a rollback: fresh predictions for the unlabelled tasks, then the backend's title.

Label Studio's uncertainty sampling sees only predictions whose version is the backend's title, so the title comes last.
One thread works on one project at a time; a project's newest version wins, a job whose version is no longer in effect is
abandoned, and errors are retried with back-off. Tasks that have a prediction of the version are skipped, so repeating a job,
after a restart or new tasks, pushes only what is missing. A new title is checked again: Label Studio may have restored the old.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
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
from services.adapter.suggestions import build_prediction, readable_text
from services.core.errors import FitloopError
from services.core.retry import Backoff
from services.core.settings import AuthSettings
from services.core.telemetry.correlation import bind_ids, new_request_id
from services.core.telemetry.logs import safe_traceback, unexpected_error_message

log = structlog.get_logger()
CHUNK: Final = 200
"""Texts that are scored and pushed at a time: annotators' own requests come in between."""
_IDLE_SECONDS: Final = 0.5
_STOP_SECONDS: Final = 10.0
RECHECK_SECONDS: Final = 10.0
"""After a title was set. Whenever Label Studio requests our state (a task or the settings are opened), it reads the backend's row,
calls /health and /setup, and then saves the whole row: with the old title, if ours was set in between."""


class RefreshSource(BackendSource, PredictionSink, Protocol):
    """The part of LabelStudio that a refresh uses."""

    def unlabelled_tasks(self, project_id: int) -> Iterator[dict[str, Any]]:
        """Return the tasks without annotations."""
        ...

    def predicted_tasks(self, project_id: int, version: str) -> set[int]:
        """Return the tasks that have a prediction of that version."""
        ...


class Refresher:
    """Keeps Label Studio's predictions and titles in sync with the versions in effect."""

    def __init__(
        self,
        source: RefreshSource,
        inference: Inference,
        auth: AuthSettings,
        max_tasks: int,
        is_current: Callable[[RefreshJob], bool],
        clock: Callable[[], float],
    ) -> None:
        """Nothing runs until `start`. `is_current` returns whether a job's version is in effect; raises if we do not lead."""
        self._source = source
        self._inference = inference
        self._auth = auth
        self._max_tasks = max_tasks
        self._is_current = is_current
        self._clock = clock
        self._progress: dict[int, RefreshProgress] = {}
        self._backoffs: dict[int, Backoff] = {}
        self._recheck_at: dict[int, float] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Work in a thread."""
        self._thread = threading.Thread(target=self._loop, name="refresh", daemon=True)
        self._thread.start()

    def stop(self, *, wait: bool = True) -> None:
        """Abandon the current job; another refresher repeats it. `wait` until the thread has ended."""
        self._stop.set()
        self._wake.set()
        if self._thread and wait:
            self._thread.join(_STOP_SECONDS)

    def submit(self, job: RefreshJob) -> None:
        """Replace the project's earlier job; do nothing if it is the same."""
        with self._lock:
            known = self._progress.get(job.project_id)
            if known and known.job == job:
                return
            self._progress[job.project_id] = RefreshProgress(job)
            self._backoffs[job.project_id] = Backoff()
        self._wake.set()

    def progress(self, project_id: int) -> RefreshProgress | None:
        """Return the progress of the project's newest job."""
        return self._progress.get(project_id)

    def run_due_job(self, now: float) -> bool:
        """Run one job that is due; return whether there was one."""
        with self._lock:
            open_jobs = [known for known in self._progress.values() if not known.done]
            due = [known for known in open_jobs if self._backoffs[known.job.project_id].until <= now]
        if not due:
            return self._recheck_title(now)
        job = due[0].job
        # With a request id of its own, by which its requests are found in the predictors' logs.
        with bind_ids(project=job.project_id, version=job.version, request_id=new_request_id()):
            self._run_job(due[0])
        return True

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
        except Exception as error:  # noqa: BLE001  # a bug: other projects' jobs still run
            log.error("refresh_error", frames=safe_traceback(error))
            self._failed(known, unexpected_error_message(error), began)

    def _finish(self, known: RefreshProgress, title_problem: str) -> None:
        job, newest = known.job, self._newest(known)
        refused = newest.refused if newest else 0
        problems = (refused_message(job, refused), title_problem)
        self._update(known, done=True, problem=" ".join(filter(None, problems)))
        if title_problem:
            log.warning("backend_not_recognised", project=job.project_id, reason=title_problem)
        if refused:
            log.warning("predictions_refused", project=job.project_id, version=job.version, count=refused)
        log.info("refreshed", project=job.project_id, version=job.version)

    def _set_title(self, job: RefreshJob) -> TitleResult:
        """Set the title; if it was another one, have it checked again."""
        result = set_title(self._source, self._auth, job.project_id, job.seen_url, job.version)
        if result.changed:
            self._recheck_at[job.project_id] = self._clock() + RECHECK_SECONDS
        return result

    def _recheck_title(self, now: float) -> bool:
        """Check one title that was set a while ago; return whether there was one."""
        project_id = next((number for number, at in self._recheck_at.items() if at <= now), None)
        if project_id is None:
            return False
        del self._recheck_at[project_id]
        known = self.progress(project_id)
        if known and known.done:
            job = known.job
            try:
                if self._is_current(job) and self._set_title(job).changed:
                    log.info("title_restored", project=project_id, version=job.version)
            except FitloopError as error:
                self._recheck_at[project_id] = self._clock() + RECHECK_SECONDS
                log.warning("title_check_failed", project=project_id, reason=str(error))
        return True

    def _failed(self, known: RefreshProgress, reason: str, began: float) -> None:
        """Wait for as long as the job took: what was pushed without an answer may still be stored, and would be pushed twice."""
        job, took = known.job, self._clock() - began
        with self._lock:
            delay = self._backoffs[job.project_id].failed(began, took)
        self._update(known, problem=f"Suggestions of {job.version} could not be refreshed: {reason}")
        log.warning(
            "refresh_failed", project=job.project_id, version=job.version, reason=reason, retry_seconds=delay
        )

    def _push(self, known: RefreshProgress) -> bool:
        """Push the missing predictions; return whether the job is still wanted at the end."""
        job, refused = known.job, 0
        tasks = self._tasks_without_prediction(job)
        self._update(known, total=len(tasks), pushed=0, refused=0)
        with asyncio.Runner() as runner:
            for start in range(0, len(tasks), CHUNK):
                if not self._is_wanted(known):
                    return self._abandon(known)
                predictions = runner.run(self._predict(job, tasks[start : start + CHUNK]))
                if not self._is_wanted(known):  # predicting may have taken long
                    return self._abandon(known)
                refused += push_predictions(
                    self._source, job.project_id, job.version, predictions, lambda: self._is_wanted(known)
                )
                self._update(known, pushed=min(start + CHUNK, len(tasks)) - refused, refused=refused)
        return self._is_wanted(known) or self._abandon(known)

    def _tasks_without_prediction(self, job: RefreshJob) -> list[tuple[int, str]]:
        """Return ids and texts of unlabelled tasks without a prediction of the version."""
        if self._max_tasks == 0 or job.title_only:
            return []
        have = self._source.predicted_tasks(job.project_id, job.version)
        lack = (task for task in self._source.unlabelled_tasks(job.project_id) if task["id"] not in have)
        texts = ((int(task["id"]), readable_text(job.space, task)) for task in lack)
        with_text = ((task, text) for task, text in texts if text is not None)
        return list(islice(with_text, max(0, self._max_tasks - len(have))))

    async def _predict(self, job: RefreshJob, tasks: Sequence[tuple[int, str]]) -> list[dict[str, Any]]:
        scores = await self._inference.scores(job.project_key, job.version, [text for _, text in tasks])
        found = (
            (task, build_prediction(job.space, scores, row, job.version))
            for row, (task, _) in enumerate(tasks)
        )
        return [{"task": task, **prediction} for task, prediction in found if prediction is not None]

    def _newest(self, known: RefreshProgress) -> RefreshProgress | None:
        """Return the job's progress now; None if another job replaced it."""
        newest = self._progress.get(known.job.project_id)
        return newest if newest and newest.job == known.job else None

    def _is_wanted(self, known: RefreshProgress) -> bool:
        return not self._stop.is_set() and self._newest(known) is not None and self._is_current(known.job)

    def _abandon(self, known: RefreshProgress) -> bool:
        """Drop a job whose version is no longer in effect, unless a newer one replaced it already."""
        with self._lock:
            if self._newest(known):
                del self._progress[known.job.project_id]
        return False

    def _update(self, known: RefreshProgress, **changes: Any) -> None:
        with self._lock:
            newest = self._newest(known)
            if newest:
                self._progress[known.job.project_id] = replace(newest, **changes)
