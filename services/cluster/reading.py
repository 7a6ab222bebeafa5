"""What a Job and its pods say of a run: attempts, outcome, and why nothing works on it yet. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from services.cluster.client import Document
from services.cluster.template import CONTAINER
from services.core.domain import Attempt, Launch, RunState

_STARTING: Final = frozenset({"ContainerCreating", "PodInitializing"})
_LACKS: Final = re.compile(r"Insufficient ([\w./-]+)")
_IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})


def launch_of(run: str, job: Document, pods: Sequence[Document], known: Launch | None) -> Launch:
    """The run as its Job shows it; attempts that are no longer to be seen stay as they were known."""
    attempts = attempts_of(pods, known.attempts if known else ())
    outcome = outcome_of(job)
    return Launch(run, attempts, outcome, "" if outcome else waiting_for(job, pods))


def attempts_of(pods: Sequence[Document], known: Sequence[Attempt]) -> tuple[Attempt, ...]:
    """One for each pod of the first index, by the time at which it started."""
    seen = sorted(
        (found for pod in pods if _is_first(pod) and (found := _attempt(pod))),
        key=lambda found: found.started_at,
    )
    earliest = seen[0].started_at if seen else None
    gone = [one for one in known if earliest is None or one.started_at < earliest]
    numbered = [*gone, *seen]
    return tuple(
        Attempt(number, one.started_at, one.ended_at, one.exit_code)
        for number, one in enumerate(numbered, start=1)
    )


def outcome_of(job: Document) -> RunState | None:
    """DONE or FAILED once the Job is over; None before."""
    conditions = {
        one["type"]: one for one in job.get("status", {}).get("conditions") or () if one["status"] == "True"
    }
    if "Complete" in conditions:
        return RunState.DONE
    return RunState.FAILED if "Failed" in conditions else None


def waiting_for(job: Document, pods: Sequence[Document]) -> str:
    """Why no process works on the run, for people; "" while one does, or is about to."""
    if job.get("spec", {}).get("suspend"):
        return "its Job is suspended: it waits for its queue"
    going = [pod for pod in pods if pod["status"].get("phase") in {"Pending", "Running"}]
    if any(pod["status"]["phase"] == "Running" for pod in going):
        return ""
    return next((reason for pod in going if (reason := pod_waits_for(pod))), "")


def pod_waits_for(pod: Document) -> str:
    """What keeps a pod from starting."""
    status = pod["status"]
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return unschedulable(str(condition.get("message") or condition.get("reason") or ""))
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in _STARTING:
            return _container_waits(container, waiting)
    return ""


def unschedulable(message: str) -> str:
    """The scheduler's message as a reason: "no node has a free nvidia.com/gpu"."""
    lacks = sorted(set(_LACKS.findall(message)))
    if lacks:
        return f"no node has a free {' and a free '.join(lacks)}"
    return f"no node takes its pod ({message.rstrip('.')})" if message else "no node takes its pod"


def _container_waits(container: Document, waiting: Document) -> str:
    reason, message = waiting.get("reason", ""), str(waiting.get("message") or "").rstrip(".")
    if reason in _IMAGE:
        return f"its image {container.get('image')} cannot be pulled ({reason})"
    return f"its container cannot start: {reason}{f' ({message})' if message else ''}"


def _attempt(pod: Document) -> Attempt | None:
    state = _trainer_state(pod)
    started = (state.get("running") or {}).get("startedAt") or (state.get("terminated") or {}).get(
        "startedAt"
    )
    ended = state.get("terminated") or {}
    if started is None:
        return None
    return Attempt(
        0, _seconds(started), _seconds(ended.get("finishedAt")) if ended else None, ended.get("exitCode")
    )


def _trainer_state(pod: Document) -> dict[str, Any]:
    statuses = pod["status"].get("containerStatuses") or ()
    return next((dict(one.get("state") or {}) for one in statuses if one["name"] == CONTAINER), {})


def _is_first(pod: Document) -> bool:
    labels = pod["metadata"].get("labels") or {}
    return str(labels.get("batch.kubernetes.io/job-completion-index", "0")) == "0"


def _seconds(stamp: str | None) -> float:
    return datetime.fromisoformat(stamp).timestamp() if stamp else 0.0
