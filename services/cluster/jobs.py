"""The Launcher port over `batch/v1` Jobs, made from the manifest that the chart renders.

A run's Job has a name of its own, so whoever launches it twice finds it there; it is ours where it carries the run's label
and the time of its request. What is known of Jobs and pods comes from two watches; while the API is away, what was known
stays true. launch.json remembers it when the Job's time to live is over. Jobs outlive this process: they are the cluster's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from services.cluster.client import ClusterError, Document, Kube
from services.cluster.events import EventRecorder
from services.cluster.informer import Informer
from services.cluster.job_status import is_deleting, is_finished, is_terminated, launch_from_status, launch_of
from services.cluster.job_template import (
    RELEASE_LABEL,
    REQUESTED_ANNOTATION,
    RUN_LABEL,
    job_name,
    render_job,
    request_id,
)
from services.core.domain import Launch, Pending, RunRequest, RunState, RunStatus
from services.core.runs import FINAL, Runs
from services.core.store import ObjectStore

log = structlog.get_logger()


class JobLauncher:
    """Runs trainers as Jobs. `start` begins to watch."""

    def __init__(
        self,
        kube: Kube,
        store: ObjectStore,
        template: Document,
        release: str,
        lease: str,
        on_change: Callable[[], None],
        recorder: EventRecorder,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`store` refuses changes where this process does not lead. Nothing is asked yet."""
        self.kube, self.template, self.release, self.lease = kube, template, release, lease
        self.runs = Runs(store)
        self.recorder = recorder
        selector = f"{RELEASE_LABEL}={release},{RUN_LABEL}"
        self.jobs = Informer(kube, "job", selector, on_change, self._delete_cancelled)
        self.pods = Informer(kube, "pod", selector, on_change)
        self._clock = clock
        self._request_ids: dict[str, str] = {}
        self._ended: dict[str, Launch] = {}

    def start(self) -> None:
        """Watch in threads; returns at once."""
        self.jobs.start()
        self.pods.start()

    def close(self) -> None:
        """Stop watching; Jobs go on."""
        self.jobs.close()
        self.pods.close()

    def launch(self, request: RunRequest) -> None:
        """Create the run's Job, unless it is there or the run has ended. Raises ClusterError, StoreError."""
        if self._job(request.run) or self._has_ended(request.run):
            return
        if not self.jobs.listed.is_set():
            raise ClusterError(f"It is not known which Jobs there are: {self.jobs.error}")
        if self._has_running_pods(request.run):
            return
        job = render_job(self.template, request, self.release, self.runs.store.url, self._owner())
        try:
            made = self.kube.create("job", job)
        except ClusterError as error:
            if error.status != 409:
                raise
            made = self._attach(request)
        self.jobs.put(made)
        log.info("a Job", run=request.run, job=made["metadata"]["name"])

    def cancel(self, run: str) -> None:
        """The run is CANCELLED, and its Job deleted; while the API is away, as soon as it is back."""
        known = self.observe(run) or Launch(run)
        if known.outcome is None:
            self._write(replace(known, outcome=RunState.CANCELLED, waiting="", pending=""))
        try:
            self._delete_job(run)
        except ClusterError as error:
            log.warning("a cancelled run's Job goes on for now", run=run, reason=str(error))

    def observe(self, run: str) -> Launch | None:
        """The run's attempts and outcome, as far as they are known."""
        if run in self._ended:
            return self._ended[run]
        written = self.runs.launch(run)
        if written and written.outcome:
            self._ended[run] = written
            return written
        seen = self._observe_job(run, written)
        if seen is not None and seen != written:
            self._write(seen)
        return seen

    def _observe_job(self, run: str, written: Launch | None) -> Launch | None:
        job = self._job(run)
        if job is None:
            return self._observe_without_job(run, written) if self.jobs.listed.is_set() else written
        pods = self._final_pods(run) if is_finished(job) else self._pods_of(run)
        return launch_of(run, job, pods, written, self._clock())

    def _observe_without_job(self, run: str, written: Launch | None) -> Launch | None:
        """The run has no Job: what its own last words say."""
        status = self.runs.status(run)
        if status and status.state in FINAL:
            return self._confirm_gone(run, status, written)
        if written and any(not is_terminated(pod) for pod in self._pods_of(run)):
            waiting = "the pods of its Job, which was deleted, still end"
            return replace(written, waiting=waiting, pending=Pending.OTHER)
        return written

    def _confirm_gone(self, run: str, status: RunStatus, written: Launch | None) -> Launch | None:
        """Its last words, once the API says so too: of a watch that was cut off unnoticed it may have a Job, which tries again."""
        try:
            job = self.kube.get("job", job_name(self.release, run))
        except ClusterError as error:
            log.warning("it is not known whether a run's Job is gone", run=run, reason=str(error))
            return written
        if job is None or not self._is_of(job, run):
            return launch_from_status(status, written)
        self.jobs.put(job)
        return launch_of(run, job, self._final_pods(run), written, self._clock())

    def _has_ended(self, run: str) -> bool:
        seen = self.observe(run)
        return seen is not None and seen.outcome is not None

    def _write(self, launch: Launch) -> None:
        self.runs.write(launch)
        if launch.outcome is None:
            return
        self._ended[launch.run] = launch
        failed = launch.outcome is RunState.FAILED
        why = f": {launch.reason}" if launch.reason else ""
        about = f"Run {launch.run} is {launch.outcome.value}{why}."
        name = f"Run{launch.outcome.value.capitalize()}"
        self.recorder.record(name, about, warning=failed, job=job_name(self.release, launch.run))

    # ---------------------------------------------------------------------------------------------- Jobs and their pods
    def _job(self, run: str) -> Document | None:
        """The run's Job, as it was last seen."""
        found = self.jobs.get(job_name(self.release, run))
        return found if found and self._is_of(found, run) else None

    def _pods_of(self, run: str) -> list[Document]:
        return [pod for pod in self.pods.all() if self._is_of(pod, run)]

    def _final_pods(self, run: str) -> list[Document]:
        """The pods of a Job that is over, asked afresh: its outcome may be known before their exit codes are."""
        try:
            for pod in self.kube.pods(self._selector(run)):
                self.pods.put(pod)
        except ClusterError as error:
            log.warning("the last of a run's pods cannot be seen", run=run, reason=str(error))
        return self._pods_of(run)

    def _selector(self, run: str) -> str:
        return f"{RELEASE_LABEL}={self.release},{RUN_LABEL}={run}"

    def _is_of(self, found: Document, run: str) -> bool:
        """Whether it is of this bucket's run, and not of another one's or somebody's own."""
        return run_and_request(found) == (run, self._request_id(run))

    def _request_id(self, run: str) -> str:
        if run not in self._request_ids:
            request = self.runs.request(run)
            if request is None:
                return ""
            self._request_ids[run] = request_id(request)
        return self._request_ids[run]

    def _has_running_pods(self, run: str) -> bool:
        """Whether pods of a Job that was deleted still end: two trainers of one run would write the same files.

        Asked afresh, for the watch of pods is not that of Jobs.
        """
        return any(not is_terminated(pod) for pod in self.kube.pods(self._selector(run)))

    def _attach(self, request: RunRequest) -> Document:
        """The Job that has the name already, where it is this request's. Raises ClusterError."""
        name = job_name(self.release, request.run)
        found = self.kube.get("job", name)
        if found is None:
            raise ClusterError(
                f"Job {name} was there a moment ago, and is gone: it is created in the next step."
            )
        if run_and_request(found) != (request.run, request_id(request)):
            raise ClusterError(
                f"Job {name} exists and belongs to another run (of an earlier bucket, or made by hand): delete it with "
                f"`kubectl delete job {name}`, and run {request.run} starts."
            )
        return found

    def _delete_job(self, run: str) -> None:
        """Delete the Job of a run that was cancelled. Raises ClusterError."""
        name = job_name(self.release, run)
        job = self._job(run) or self.kube.get("job", name)
        if job and self._is_of(job, run) and not is_finished(job) and not is_deleting(job):
            self.kube.delete("job", name)

    def _delete_cancelled(self) -> None:
        """Jobs of cancelled runs that could not be deleted then. Raises ClusterError, StoreError."""
        for job in self.jobs.all():
            run = job["metadata"]["labels"][RUN_LABEL]
            if is_finished(job) or is_deleting(job):
                continue
            known = self._ended.get(run) or self.runs.launch(run)
            if known and known.outcome is RunState.CANCELLED:
                self._delete_job(run)

    def _owner(self) -> Document | None:
        """The Lease, which goes with the release: then so do its Jobs."""
        lease = self.kube.get("lease", self.lease)
        if lease is None:
            return None
        named = {key: lease["metadata"][key] for key in ("name", "uid")}
        kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        return {**kind, **named, "controller": False, "blockOwnerDeletion": False}


def run_and_request(found: Document) -> tuple[str | None, str | None]:
    """The run that a Job or pod says it is of, and the time of its request."""
    meta = found["metadata"]
    return (meta.get("labels") or {}).get(RUN_LABEL), (meta.get("annotations") or {}).get(
        REQUESTED_ANNOTATION
    )
