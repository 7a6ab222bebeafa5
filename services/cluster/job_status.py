"""Read a run's attempts, outcome and waiting reason from its Job and pods. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Final

from services.cluster.client import Document
from services.cluster.job_template import CONTAINER
from services.core.domain import Attempt, LaunchState, Pending, RunState, RunStatus

IMAGE_ERRORS: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""Waiting reasons of a container whose image cannot be pulled."""

_INSUFFICIENT_DEVICE: Final = re.compile(r"Insufficient [\w.-]+/")


def pending_kind(job: Document, pods: Sequence[Document]) -> Pending:
    """Return the kind of a waiting Job; Pending.TURN never comes from the cluster."""
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
"""After which a pod that is not created, or does not start, is reported."""

_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})

_INSUFFICIENT: Final = re.compile(r"Insufficient ([\w./-]*\w)")

_REASONS: Final = {
    "PodFailurePolicy": "its pod failed in a way that a retry would not fix",
    "BackoffLimitExceeded": "its pods failed too often",
    "DeadlineExceeded": "it exceeded its time limit",
}


def launch_state_of(
    run: str, job: Document, pods: Sequence[Document], known: LaunchState | None, now: float
) -> LaunchState:
    """Return the run's state by its Job; attempts whose pods were deleted stay as they were known.

    A known outcome is final, whatever the Job says.
    """
    if known and known.outcome:
        return known
    before = replace(known or LaunchState(run), waiting="", pending="", reason="")
    outcome, attempts = outcome_of(job), attempts_of(pods, before.attempts)
    if outcome is None:
        waiting = waiting_reason(job, pods, now)
        pending = pending_kind(job, pods) if waiting else ""
        return replace(before, attempts=attempts, waiting=waiting, pending=pending)
    ended = ended_at(job)
    reason = failure_reason(job) if outcome is RunState.FAILED else ""
    attempts = tuple(_with_end(one, ended) for one in attempts)
    return replace(before, attempts=attempts, outcome=outcome, reason=reason)


def launch_state_from_status(status: RunStatus, known: LaunchState | None) -> LaunchState:
    """Return the state of a run whose Job was deleted, by the run's own status."""
    launch = replace(known or LaunchState(status.run), waiting="", pending="", reason="")
    *before, last = launch.attempts or (Attempt(status.attempt, status.updated_at),)
    if last.ended_at is None:
        last = replace(last, ended_at=status.updated_at, exit_code=status.exit_code)
    return replace(launch, attempts=(*before, last), outcome=status.state)


def attempts_of(pods: Iterable[Document], known: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """Return an attempt for each pod of index 0, ordered by start: pods of a run never overlap."""
    found = {one.started_at: one for one in known}
    for pod in pods:
        if _is_first_index(pod) and (seen := _attempt(pod)):
            before = found.get(seen.started_at)
            if before is None:
                found[seen.started_at] = seen
            elif seen.ended_at:
                found[seen.started_at] = replace(seen, unknown=before.unknown)
    return tuple(replace(found[at], number=number) for number, at in enumerate(sorted(found), start=1))


def outcome_of(job: Document) -> RunState | None:
    """Return DONE or FAILED once the Job has finished; None before."""
    conditions = _conditions(job)
    if "Complete" in conditions:
        return RunState.DONE
    return RunState.FAILED if "Failed" in conditions else None


def is_finished(job: Document) -> bool:
    return outcome_of(job) is not None


def is_terminated(pod: Document) -> bool:
    """Return whether no process of the pod runs, or will."""
    return pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}


def is_deleting(found: Document) -> bool:
    return "deletionTimestamp" in found["metadata"]


def ended_at(job: Document) -> float:
    """Return when a finished Job ended."""
    conditions = _conditions(job)
    return _timestamp(
        (conditions.get("Complete") or conditions.get("Failed") or {}).get("lastTransitionTime")
    )


def failure_reason(job: Document) -> str:
    """Return Kubernetes' reason for the failure, for people."""
    failed = _conditions(job).get("Failed") or {}
    reason, message = str(failed.get("reason") or ""), str(failed.get("message") or "").rstrip(".")
    return f"{_REASONS.get(reason, 'its Job failed')} ({reason}{': ' if message else ''}{message})"


def waiting_reason(job: Document, pods: Sequence[Document], now: float) -> str:
    """Return why no process works on the run, for people; "" while one does or is about to."""
    if is_deleting(job):
        return "its Job is being deleted; a new one follows"
    if job.get("spec", {}).get("suspend"):
        return "its Job is suspended: it waits for its queue"
    going = [pod for pod in pods if pod.get("status", {}).get("phase") in {"Pending", "Running"}]
    running = [pod for pod in going if pod["status"]["phase"] == "Running"]
    if running:
        return next((lost for pod in running if (lost := _lost_node_reason(pod, now))), "")
    if going:
        return next((reason for pod in going if (reason := pod_waiting_reason(pod, now))), "")
    return "" if pods else _no_pod_reason(job, now)  # the Job pauses between two pods


def pod_waiting_reason(pod: Document, now: float = 0.0) -> str:
    """Return what keeps a pod from starting; with `now`, a slow start is a reason as well."""
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
        return f"its pod is not starting: a volume or a Secret may be missing, see `kubectl describe pod {meta['name']}`"
    return ""


def unschedulable_reason(message: str) -> str:
    """Shorten the scheduler's message: "no node has a free nvidia.com/gpu"."""
    lacks = sorted(set(_INSUFFICIENT.findall(message)))
    whole = [name for name in lacks if "/" in name]
    if whole:
        return f"no node has a free {' and a free '.join(whole)}"
    if lacks:
        return f"no node has enough free {' and '.join(lacks)}"
    rest = message.partition(" preemption:")[0].rstrip(". ")
    return f"no node accepts its pod ({rest})" if rest else "no node accepts its pod"


def _lost_node_reason(pod: Document, now: float) -> str:
    """Return the reason for a pod that should have terminated long ago: its lost node blocks the replacement."""
    meta = pod["metadata"]
    end = _timestamp(meta.get("deletionTimestamp"), now)  # includes its grace period
    if now - end < _SLOW_SECONDS:
        return ""
    node = pod.get("spec", {}).get("nodeName") or "its node"
    return (
        f"its pod should have terminated and has not: {node} may be lost, and the pod is not replaced until the node is "
        f"back or deleted, see `kubectl describe pod {meta['name']}`"
    )


def _no_pod_reason(job: Document, now: float) -> str:
    status, meta = job.get("status", {}), job["metadata"]
    if status.get("failed") or status.get("terminating"):
        return ""
    if now - _timestamp(status.get("startTime") or meta.get("creationTimestamp"), now) < _SLOW_SECONDS:
        return ""
    return f"no pod is created for its Job: a quota or a policy may refuse it, see `kubectl describe job {meta['name']}`"


def _container_reason(container: Document, waiting: Document) -> str:
    reason, message = waiting.get("reason", ""), str(waiting.get("message") or "").rstrip(".")
    if reason in IMAGE_ERRORS:
        return f"its image {container.get('image')} cannot be pulled ({reason})"
    return f"its container cannot start: {reason}{f' ({message})' if message else ''}"


def _conditions(job: Document) -> dict[str, Document]:
    found = job.get("status", {}).get("conditions") or ()
    return {one["type"]: one for one in found if one["status"] == "True"}


def _with_end(attempt: Attempt, ended: float) -> Attempt:
    """End an attempt whose pod vanished before its end was seen: with its Job at the latest."""
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
