"""What a run's Job waits for, as one of a few words for metrics; `reading` says the same in a sentence. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from services.cluster.client import Document
from services.core.domain import Pending

IMAGE: Final = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""What Kubernetes says of a container whose image it does not get."""
_LACKS_A_DEVICE: Final = re.compile(r"Insufficient [\w.-]+/")


def pending_for(job: Document, pods: Sequence[Document]) -> Pending:
    """For a Job that waits: see Pending. `turn` is none of the cluster's."""
    if job.get("spec", {}).get("suspend"):
        return Pending.SUSPENDED
    if "deletionTimestamp" in job["metadata"]:
        return Pending.OTHER
    going = [pod for pod in pods if pod.get("status", {}).get("phase") in {"Pending", "Running"}]
    if not going:
        return Pending.OTHER if pods else Pending.QUOTA
    return next((kind for pod in going for kind in _of(pod)), Pending.OTHER)


def _of(pod: Document) -> Iterator[Pending]:
    status = pod["status"]
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            lacks = _LACKS_A_DEVICE.search(str(condition.get("message") or ""))
            yield Pending.NO_GPU if lacks else Pending.NO_NODE
    for container in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        if (container.get("state", {}).get("waiting") or {}).get("reason") in IMAGE:
            yield Pending.IMAGE
