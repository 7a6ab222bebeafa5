"""The Launcher port over `batch/v1` Jobs, rendered from the chart's manifest.

A run's Job has a name of its own, so a second launch finds it; it belongs to the run if it carries the run's label and its
request's id. Jobs and pods are known from two informers; while the API is unreachable, the last known state holds.
launch.json keeps it when the Job's time to live is over. Jobs outlive this process.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import structlog

from services.cluster.client import ClusterError, Document, Kube
from services.cluster.events import EventRecorder
from services.cluster.informer import Informer
from services.cluster.job_status import (
    is_deleting,
    is_finished,
    is_terminated,
    launch_state_from_status,
    launch_state_of,
)
from services.cluster.job_template import (
    RELEASE_LABEL,
    REQUESTED_ANNOTATION,
    RUN_LABEL,
    job_name,
    render_job,
    request_id,
)
from services.core.domain import LaunchState, Pending, RunRequest, RunState, RunStatus
from services.core.runs import FINAL, Runs
from services.core.store import ObjectStore

log = structlog.get_logger()


class JobLauncher:
    """Runs trainers as Jobs."""

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
        """`store` refuses changes unless this process leads."""
        self.kube, self.template, self.release, self.lease = kube, template, release, lease
        self.runs = Runs(store)
        self.recorder = recorder
        selector = f"{RELEASE_LABEL}={release},{RUN_LABEL}"
        self.jobs = Informer(kube, "job", selector, on_change, self._delete_cancelled)
        self.pods = Informer(kube, "pod", selector, on_change)
        self._clock = clock
        self._request_ids: dict[str, str] = {}
        self._ended: dict[str, LaunchState] = {}

    def start(self) -> None:
        """Start watching in threads."""
        self.jobs.start()
        self.pods.start()

    def close(self) -> None:
        """Stop watching; Jobs continue."""
        self.jobs.close()
        self.pods.close()

    def launch(self, request: RunRequest) -> None:
        """Create the run's Job, unless it exists or the run has ended. Raises ClusterError, StoreError."""
        if self._job(request.run) or ((known := self.observe(request.run)) and known.outcome):
            return
        if not self.jobs.listed.is_set():
            raise ClusterError(f"The list of Jobs is not known yet: {self.jobs.error}")
        # Pods of a deleted Job may still run, and two trainers of one run would write the same files. The API is queried,
        # because the pods' watch may lag behind the Jobs'.
        if any(not is_terminated(pod) for pod in self.kube.pods(self._selector(request.run))):
            return
        job = render_job(self.template, request, self.release, self.runs.store.url, self._owner())
        try:
            created = self.kube.create("job", job)
        except ClusterError as error:
            if error.status != 409:
                raise
            created = self._adopt(request)
        self.jobs.put(created)
        log.info("job_created", run=request.run, job=created["metadata"]["name"])

    def cancel(self, run: str) -> None:
        """Mark the run CANCELLED and delete its Job, or do so as soon as the API is reachable again."""
        known = self.observe(run) or LaunchState(run)
        if known.outcome is None:
            self._write(replace(known, outcome=RunState.CANCELLED, waiting="", pending=""))
        try:
            self._delete_job(run)
        except ClusterError as error:
            log.warning("job_deletion_delayed", run=run, reason=str(error))

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

    def _observe_job(self, run: str, written: LaunchState | None) -> LaunchState | None:
        job = self._job(run)
        if job is None:
            return self._observe_without_job(run, written) if self.jobs.listed.is_set() else written
        pods = self._final_pods(run) if is_finished(job) else self._pods_of(run)
        return launch_state_of(run, job, pods, written, self._clock())

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
        try:
            job = self.kube.get("job", job_name(self.release, run))
        except ClusterError as error:
            log.warning("job_lookup_failed", run=run, reason=str(error))
            return written
        if job is None or not self._is_of(job, run):
            return launch_state_from_status(status, written)
        self.jobs.put(job)
        return launch_state_of(run, job, self._final_pods(run), written, self._clock())

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

    def _final_pods(self, run: str) -> list[Document]:
        """Read the pods of a finished Job again: its outcome may be known before their exit codes are."""
        try:
            for pod in self.kube.pods(self._selector(run)):
                self.pods.put(pod)
        except ClusterError as error:
            log.warning("pod_list_failed", run=run, reason=str(error))
        return self._pods_of(run)

    def _selector(self, run: str) -> str:
        return f"{RELEASE_LABEL}={self.release},{RUN_LABEL}={run}"

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

    def _adopt(self, request: RunRequest) -> Document:
        """Return the existing Job of that name if it is this request's. Raises ClusterError."""
        name = job_name(self.release, request.run)
        found = self.kube.get("job", name)
        if found is None:
            raise ClusterError(
                f"Job {name} existed a moment ago and is gone: it is created in the next step."
            )
        if run_and_request(found) != (request.run, request_id(request)):
            raise ClusterError(
                f"Job {name} exists and belongs to another run (of an earlier bucket, or created by hand): delete it with "
                f"`kubectl delete job {name}`, and run {request.run} starts."
            )
        return found

    def _delete_job(self, run: str) -> None:
        """Delete the Job of a cancelled run. Raises ClusterError."""
        name = job_name(self.release, run)
        job = self._job(run) or self.kube.get("job", name)
        if job and self._is_of(job, run) and not is_finished(job) and not is_deleting(job):
            self.kube.delete("job", name)

    def _delete_cancelled(self) -> None:
        """Delete Jobs of cancelled runs that could not be deleted before. Raises ClusterError, StoreError."""
        for job in self.jobs.all():
            run = job["metadata"]["labels"][RUN_LABEL]
            if is_finished(job) or is_deleting(job):
                continue
            known = self._ended.get(run) or self.runs.launch_state(run)
            if known and known.outcome is RunState.CANCELLED:
                self._delete_job(run)

    def _owner(self) -> Document | None:
        """Return the Lease as owner: it is deleted with the release, and so are its Jobs."""
        lease = self.kube.get("lease", self.lease)
        if lease is None:
            return None
        identity = {key: lease["metadata"][key] for key in ("name", "uid")}
        kind = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease"}
        return {**kind, **identity, "controller": False, "blockOwnerDeletion": False}


def run_and_request(found: Document) -> tuple[str | None, str | None]:
    """Return the run of a Job or pod and its request's id, as its label and annotation name them."""
    meta = found["metadata"]
    return (meta.get("labels") or {}).get(RUN_LABEL), (meta.get("annotations") or {}).get(
        REQUESTED_ANNOTATION
    )
