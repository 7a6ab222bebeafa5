"""The launcher's requests to the Kubernetes API, each of which may hang for seconds: for workers, not for the leader's thread.

Creating is idempotent: a run's Job has a name of its own, and one that exists is adopted if it is the request's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from services.cluster.client import ClusterError, Document, Kube
from services.cluster.job_status import is_deleting, is_finished, is_terminated
from services.cluster.job_template import (
    RELEASE_LABEL,
    REQUESTED_ANNOTATION,
    RUN_LABEL,
    job_name,
    render_job,
    request_id,
)
from services.core.domain import RunRequest

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class JobRequests:
    """The requests of one release's launcher. Every method raises ClusterError."""

    kube: Kube
    template: Document
    release: str
    lease: str
    store_url: str
    is_leading: Callable[[], bool]

    def create(self, request: RunRequest) -> Document | None:
        """Create the run's Job, or adopt the one that exists; None while pods of a deleted one run, or if the lead was lost."""
        # Two trainers of one run would write the same files. The API is queried, because the pods' watch may lag behind the Jobs'.
        if any(not is_terminated(pod) for pod in self.pods(request.run)):
            return None
        job = render_job(self.template, request, self.release, self.store_url, self._owner())
        if not self.is_leading():  # what was asked above may have taken long
            return None
        try:
            created = self.kube.create("job", job)
        except ClusterError as error:
            if error.status != 409:
                raise
            created = self._adopt(request)
        log.info("job_created", run=request.run, job=created["metadata"]["name"])
        return created

    def find(self, run: str) -> Document | None:
        """Return the Job of that name, also if another release owns it."""
        return self.kube.get("job", job_name(self.release, run))

    def pods(self, run: str) -> list[Document]:
        """Return the run's pods."""
        return self.kube.pods(f"{RELEASE_LABEL}={self.release},{RUN_LABEL}={run}")

    def delete(self, run: str, request: str, known: Document | None) -> None:
        """Delete the Job of a cancelled run, unless it has ended or belongs to another request."""
        job = known or self.find(run)
        if job and run_and_request(job) == (run, request) and not is_finished(job) and not is_deleting(job):
            self.kube.delete("job", job_name(self.release, run))

    def _adopt(self, request: RunRequest) -> Document:
        """Return the existing Job of that name if it is this request's."""
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
