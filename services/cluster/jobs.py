"""The Launcher port over `batch/v1` Jobs, rendered from the chart's manifest.

A run's Job has a name of its own, so a second launch finds it; it belongs to the run if it carries the run's label and its
request's id. Jobs and pods are known from two informers; while the API is unreachable, the last known state holds. What is
asked of the API otherwise is asked in workers, and a later call acts on the answer. launch.json keeps the state when the Job's
time to live is over. Jobs outlive this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import structlog

from services.adapter.leader.workers import Finished, Workers
from services.cluster.client import ClusterError, Document, Kube
from services.cluster.events import EventRecorder
from services.cluster.informer import Informer
from services.cluster.job_requests import JobRequests, run_and_request
from services.cluster.job_status import (
    is_deleting,
    is_finished,
    is_terminated,
    launch_state_from_status,
    launch_state_of,
)
from services.cluster.job_template import RELEASE_LABEL, RUN_LABEL, job_name, request_id
from services.core.domain import LaunchState, Pending, RunRequest, RunState, RunStatus
from services.core.runs import FINAL, Runs
from services.core.store import ObjectStore

T = TypeVar("T")
log = structlog.get_logger()


class JobLauncher:
    """Runs trainers as Jobs. Only the leader's thread may call it, and no call waits for the API."""

    def __init__(
        self,
        kube: Kube,
        store: ObjectStore,
        template: Document,
        release: str,
        lease: str,
        on_change: Callable[[str], None],
        recorder: EventRecorder,
        workers: Workers,
        clock: Callable[[], float] = time.time,
        is_leading: Callable[[], bool] = lambda: True,
    ) -> None:
        """`store` refuses changes unless this process leads. `on_change` is called with active runs, from threads, as Jobs or pods change.

        `workers` send the requests; no Job is created unless `is_leading`.
        """
        self.release = release
        self.runs = Runs(store)
        self.recorder = recorder
        self.requests = JobRequests(kube, template, release, lease, store.url, is_leading)
        selector = f"{RELEASE_LABEL}={release},{RUN_LABEL}"
        self.jobs = Informer(kube, "job", selector, self._changed, self._delete_cancelled)
        self.pods = Informer(kube, "pod", selector, self._changed)
        self._workers = workers
        self._on_change = on_change
        self._clock = clock
        self._request_ids: dict[str, str] = {}
        self._ended: dict[str, LaunchState] = {}
        self._answers: dict[tuple[str, str], Finished[Any]] = {}
        """What the API answered, by kind and run, until it was used."""

    def start(self) -> None:
        """Start watching in threads."""
        self.jobs.start()
        self.pods.start()

    def close(self) -> None:
        """Stop watching; Jobs continue."""
        self.jobs.close()
        self.pods.close()

    def launch(self, request: RunRequest) -> None:
        """Have the run's Job created, unless it exists or the run has ended. Raises ClusterError of the last try, StoreError."""
        self._request_ids[request.run] = request_id(request)
        if self._job(request.run) or ((known := self.observe(request.run)) and known.outcome):
            return
        if not self.jobs.listed.is_set():
            raise ClusterError(f"The list of Jobs is not known yet: {self.jobs.error}")
        if tried := self._ask("create", request.run, partial(self._create, request)):
            tried.result()

    def cancel(self, run: str) -> None:
        """Mark the run CANCELLED and have its Job deleted; if that fails, it is after the next list of Jobs."""
        known = self.observe(run) or LaunchState(run)
        if known.outcome is None:
            self._write(replace(known, outcome=RunState.CANCELLED, waiting="", pending=""))
        work = partial(self._delete, run, self._request_id(run))
        self._workers.submit(("delete", run), work, lambda _: None)

    def observe(self, run: str) -> LaunchState | None:
        """Return the run's attempts and outcome, as far as known."""
        if run in self._ended:
            return self._ended[run]
        written = self.runs.launch_state(run)
        if written and written.outcome:
            self._ended[run] = written
            return written
        seen = self._observe_job(run, written)
        if seen is not None and seen != written:
            self._write(seen)
        return seen

    def _changed(self) -> None:
        for run in self._request_ids.copy().keys() - self._ended.copy().keys():
            self._on_change(run)

    def _ask(self, kind: str, run: str, work: Callable[[], T]) -> Finished[T] | None:
        """Return what a worker was answered, once; None while it asks."""
        key = (kind, run)
        self._workers.deliver()
        if key not in self._answers:
            self._workers.submit(key, work, partial(self._answers.__setitem__, key))
            self._workers.deliver()
        return self._answers.pop(key, None)

    def _observe_job(self, run: str, written: LaunchState | None) -> LaunchState | None:
        job = self._job(run)
        if job is None:
            return self._observe_without_job(run, written) if self.jobs.listed.is_set() else written
        is_complete = not is_finished(job) or _has_ended(job, self._pods_of(run))
        if not is_complete and not self._has_final_pods(run):
            return written
        return launch_state_of(run, job, self._pods_of(run), written, self._clock())

    def _has_final_pods(self, run: str) -> bool:
        """Have the pods of a finished Job read again: its outcome may be known before their exit codes are. Return whether they were."""
        found = self._ask("pods", run, partial(self.requests.pods, run))
        if found is None:
            return False
        try:
            for pod in found.result():
                self.pods.put(pod)
        except ClusterError as error:
            log.warning("pod_list_failed", run=run, reason=str(error))
        return True

    def _observe_without_job(self, run: str, written: LaunchState | None) -> LaunchState | None:
        """Return what the run without a Job reported itself."""
        status = self.runs.status(run)
        if status and status.state in FINAL:
            return self._confirm_gone(run, status, written)
        if written and any(not is_terminated(pod) for pod in self._pods_of(run)):
            waiting = "its Job was deleted, and the Job's pods are still terminating"
            return replace(written, waiting=waiting, pending=Pending.OTHER)
        return written

    def _confirm_gone(self, run: str, status: RunStatus, written: LaunchState | None) -> LaunchState | None:
        """Return what the run reported, once the API confirms that it has no Job: a watch may have missed a retry."""
        found = self._ask("find", run, partial(self.requests.find, run))
        if found is None:
            return written
        try:
            job = found.result()
        except ClusterError as error:
            log.warning("job_lookup_failed", run=run, reason=str(error))
            return written
        if job is None or not self._is_of(job, run):
            return launch_state_from_status(status, written)
        self.jobs.put(job)
        return self._observe_job(run, written)

    def _write(self, launch: LaunchState) -> None:
        self.runs.write(launch)
        if launch.outcome is None:
            return
        self._ended[launch.run] = launch
        failed = launch.outcome is RunState.FAILED
        why = f": {launch.reason}" if launch.reason else ""
        note = f"Run {launch.run} is {launch.outcome.value}{why}."
        event = f"Run{launch.outcome.value.capitalize()}"
        self.recorder.record(event, note, warning=failed, job=job_name(self.release, launch.run))

    def _job(self, run: str) -> Document | None:
        """Return the run's Job as last seen."""
        found = self.jobs.get(job_name(self.release, run))
        return found if found and self._is_of(found, run) else None

    def _pods_of(self, run: str) -> list[Document]:
        return [pod for pod in self.pods.all() if self._is_of(pod, run)]

    def _is_of(self, found: Document, run: str) -> bool:
        """Return whether the object belongs to this bucket's run, and not to another bucket's or to a person."""
        return run_and_request(found) == (run, self._request_id(run))

    def _request_id(self, run: str) -> str:
        if run not in self._request_ids:
            request = self.runs.request(run)
            if request is None:
                return ""
            self._request_ids[run] = request_id(request)
        return self._request_ids[run]

    def _create(self, request: RunRequest) -> None:
        """Create the run's Job, and delete it if the run was cancelled meanwhile. In a worker. Raises ClusterError."""
        job = self.requests.create(request)
        if job is None:
            return
        self.jobs.put(job)
        ended = self._ended.get(request.run)
        if ended and ended.outcome is RunState.CANCELLED:
            self.requests.delete(request.run, request_id(request), job)
        self._on_change(request.run)

    def _delete(self, run: str, request: str) -> None:
        """Delete the Job of a cancelled run. In a worker."""
        try:
            self.requests.delete(run, request, self._job(run))
        except ClusterError as error:
            log.warning("job_deletion_delayed", run=run, reason=str(error))

    def _delete_cancelled(self) -> None:
        """Delete Jobs of cancelled runs that could not be deleted before. Called from the informer's thread. Raises ClusterError, StoreError."""
        for job in self.jobs.all():
            run = job["metadata"]["labels"][RUN_LABEL]
            if is_finished(job) or is_deleting(job):
                continue
            known = self._ended.get(run) or self.runs.launch_state(run)
            if known and known.outcome is RunState.CANCELLED:
                self.requests.delete(run, self._request_id(run), job)


def _has_ended(job: Document, pods: list[Document]) -> bool:
    """Return whether these are all pods that the finished Job counts, with their exit codes."""
    status = job.get("status", {})
    counted = int(status.get("succeeded") or 0) + int(status.get("failed") or 0)
    return 0 < counted <= sum(is_terminated(pod) for pod in pods)
