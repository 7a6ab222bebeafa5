"""What a Job and its pods say of a run: attempts, outcome, and why nothing works on it yet. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from services.cluster.client import Document
from services.cluster.job_template import CONTAINER
from services.core.domain import Attempt, Launch, Pending, RunState, RunStatus

IMAGE_ERRORS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""What Kubernetes says of a container whose image it does not get."""

_INSUFFICIENT_DEVICE: Final = re.compile(r"Insufficient [\w.-]+/")


def pending_kind(job: Document, pods: Sequence[Document]) -> Pending:
    """For a Job that waits: see Pending. `turn` is none of the cluster's."""
    if job.get("spec", {}).get("suspend"):
        return Pending.SUSPENDED
    if "deletionTimestamp" in job["metadata"]:
        return Pending.OTHER
    going = [pod for pod in pods if pod.get("status", {}).get("phase") in {"Pending", "Running"}]
    if not going:
        return Pending.OTHER if pods else Pending.QUOTA
    return next((kind for pod in going for kind in _pod_pending_kinds(pod)), Pending.OTHER)


def _pod_pending_kinds(pod: Document) -> Iterator[Pending]:
    status = pod["status"]
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            lacks = _INSUFFICIENT_DEVICE.search(str(condition.get("message") or ""))
            yield Pending.NO_GPU if lacks else Pending.NO_NODE
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if (container.get("state", {}).get("waiting") or {}).get("reason") in IMAGE_ERRORS:
            yield Pending.IMAGE


_SLOW_SECONDS: Final = 90.0
"""After which a pod that does not come, or does not start, is something to tell of."""

_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})

_INSUFFICIENT: Final = re.compile(r"Insufficient ([\w./-]*\w)")

_REASONS: Final = {
    "PodFailurePolicy": "its pod failed in a way that another try would not mend",
    "BackoffLimitExceeded": "its pods failed too often",
    "DeadlineExceeded": "it took longer than it may",
}


def launch_of(run: str, job: Document, pods: Sequence[Document], known: Launch | None, now: float) -> Launch:
    """The run as its Job shows it; attempts that are no longer to be seen stay as they were known.

    An outcome that is known already stays, whatever the Job says.
    """
    if known and known.outcome:
        return known
    outcome, attempts = outcome_of(job), attempts_of(pods, known.attempts if known else ())
    if outcome is None:
        waiting = waiting_reason(job, pods, now)
        return Launch(run, attempts, None, waiting, pending=pending_kind(job, pods) if waiting else "")
    ended = ended_at(job)
    reason = failure_reason(job) if outcome is RunState.FAILED else ""
    return Launch(run, tuple(_with_end(one, ended) for one in attempts), outcome, reason=reason)


def launch_from_status(status: RunStatus, known: Launch | None) -> Launch:
    """A run whose Job is gone, as it says of itself that it ended."""
    *before, last = (known.attempts if known else ()) or (Attempt(status.attempt, status.updated_at),)
    if last.ended_at is None:
        last = replace(last, ended_at=status.updated_at, exit_code=status.exit_code)
    return Launch(status.run, (*before, last), status.state)


def attempts_of(pods: Iterable[Document], known: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """One for each pod of the first index, by the time at which it started: pods of a run are never side by side."""
    found = {one.started_at: one for one in known}
    for pod in pods:
        if _is_first_index(pod) and (seen := _attempt(pod)):
            before = found.get(seen.started_at)
            found[seen.started_at] = seen if before is None or seen.ended_at else before
    return tuple(replace(found[at], number=number) for number, at in enumerate(sorted(found), start=1))


def outcome_of(job: Document) -> RunState | None:
    """DONE or FAILED once the Job is over; None before."""
    conditions = _conditions(job)
    if "Complete" in conditions:
        return RunState.DONE
    return RunState.FAILED if "Failed" in conditions else None


def is_finished(job: Document) -> bool:
    """Whether nothing more happens to it."""
    return outcome_of(job) is not None


def is_terminated(pod: Document) -> bool:
    """Whether no process of the pod runs, nor will."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def is_deleting(found: Document) -> bool:
    """Whether it is being deleted."""
    return "deletionTimestamp" in found["metadata"]


def ended_at(job: Document) -> float:
    """When a Job that is over ended."""
    conditions = _conditions(job)
    return _timestamp(
        (conditions.get("Complete") or conditions.get("Failed") or {}).get("lastTransitionTime")
    )


def failure_reason(job: Document) -> str:
    """What Kubernetes says of the failure, for people."""
    failed = _conditions(job).get("Failed") or {}
    reason, message = str(failed.get("reason") or ""), str(failed.get("message") or "").rstrip(".")
    return f"{_REASONS.get(reason, 'its Job failed')} ({reason}{': ' if message else ''}{message})"


def waiting_reason(job: Document, pods: Sequence[Document], now: float) -> str:
    """Why no process works on the run, for people; "" while one does, or is about to."""
    if is_deleting(job):
        return "its Job is being deleted; another one follows"
    if job.get("spec", {}).get("suspend"):
        return "its Job is suspended: it waits for its queue"
    going = [pod for pod in pods if pod.get("status", {}).get("phase") in {"Pending", "Running"}]
    running = [pod for pod in going if pod["status"]["phase"] == "Running"]
    if running:
        return next((lost for pod in running if (lost := _lost_node_reason(pod, now))), "")
    if going:
        return next((reason for pod in going if (reason := pod_waiting_reason(pod, now))), "")
    return "" if pods else _no_pod_reason(job, now)  # between two of them is the Job's own pause


def pod_waiting_reason(pod: Document, now: float = 0.0) -> str:
    """What keeps a pod from starting. With `now`, slowness counts as well."""
    status = pod["status"]
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return unschedulable_reason(str(condition.get("message") or condition.get("reason") or ""))
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in _STARTING:
            return _container_reason(container, waiting)
    meta = pod["metadata"]
    if (
        status.get("phase") == "Pending"
        and now - _timestamp(meta.get("creationTimestamp"), now) > _SLOW_SECONDS
    ):
        return f"its pod does not start: a volume or a Secret may be missing, see `kubectl describe pod {meta['name']}`"
    return ""


def unschedulable_reason(message: str) -> str:
    """The scheduler's message as a reason: "no node has a free nvidia.com/gpu"."""
    lacks = sorted(set(_INSUFFICIENT.findall(message)))
    whole = [name for name in lacks if "/" in name]
    if whole:
        return f"no node has a free {' and a free '.join(whole)}"
    if lacks:
        return f"no node has enough free {' and '.join(lacks)}"
    said = message.partition(" preemption:")[0].rstrip(". ")
    return f"no node takes its pod ({said})" if said else "no node takes its pod"


def _lost_node_reason(pod: Document, now: float) -> str:
    """A pod that ought to have ended long ago: its node is gone, and holds up what would take its place."""
    meta = pod["metadata"]
    end = _timestamp(meta.get("deletionTimestamp"), now)  # its time to end in good order is in that
    if now - end < _SLOW_SECONDS:
        return ""
    node = pod.get("spec", {}).get("nodeName") or "its node"
    return (
        f"its pod should have ended and does not: {node} may be lost, and until it is back or deleted nothing takes the "
        f"pod's place, see `kubectl describe pod {meta['name']}`"
    )


def _no_pod_reason(job: Document, now: float) -> str:
    status, meta = job.get("status", {}), job["metadata"]
    if status.get("failed") or status.get("terminating"):
        return ""
    if now - _timestamp(status.get("startTime") or meta.get("creationTimestamp"), now) < _SLOW_SECONDS:
        return ""
    return f"no pod comes for its Job: a quota or a policy may refuse it, see `kubectl describe job {meta['name']}`"


def _container_reason(container: Document, waiting: Document) -> str:
    reason, message = waiting.get("reason", ""), str(waiting.get("message") or "").rstrip(".")
    if reason in IMAGE_ERRORS:
        return f"its image {container.get('image')} cannot be pulled ({reason})"
    return f"its container cannot start: {reason}{f' ({message})' if message else ''}"


def _conditions(job: Document) -> dict[str, Document]:
    found = job.get("status", {}).get("conditions") or ()
    return {one["type"]: one for one in found if one["status"] == "True"}


def _with_end(attempt: Attempt, ended: float) -> Attempt:
    """An attempt whose pod went before its end was seen ended with its Job at the latest."""
    return attempt if attempt.ended_at else replace(attempt, ended_at=max(ended, attempt.started_at))


def _attempt(pod: Document) -> Attempt | None:
    state = _trainer_state(pod)
    ended = state.get("terminated") or {}
    started = (state.get("running") or {}).get("startedAt") or ended.get("startedAt")
    if started is None:
        return None
    began = max(
        _timestamp(started), _timestamp(pod["metadata"].get("creationTimestamp"))
    )  # 1970 where it failed to
    end = max(_timestamp(ended.get("finishedAt")), began) if ended else None
    return Attempt(0, began, end, ended.get("exitCode"))


def _trainer_state(pod: Document) -> dict[str, Any]:
    statuses = pod.get("status", {}).get("containerStatuses") or ()
    return next((dict(one.get("state") or {}) for one in statuses if one["name"] == CONTAINER), {})


def _is_first_index(pod: Document) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get("batch.kubernetes.io/job-completion-index", "0")) == "0"


def _timestamp(stamp: str | None, otherwise: float = 0.0) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else otherwise
