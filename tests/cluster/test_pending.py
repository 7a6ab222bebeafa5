"""What a run waits for, in one of a few words, whatever Kubernetes says around it."""

from __future__ import annotations

from typing import Any

import pytest

from services.cluster.pending import pending_for
from services.core.domain import Pending

JOB: dict[str, Any] = {"metadata": {"name": "fitloop-1-1"}, "spec": {}, "status": {}}


def pod(phase: str = "Pending", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": {"phase": phase, **status}}


def unschedulable(message: str | None) -> dict[str, Any]:
    return pod(conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


def waiting(reason: str, kind: str = "containerStatuses") -> dict[str, Any]:
    statuses: dict[str, Any] = {kind: [{"name": "trainer", "state": {"waiting": {"reason": reason}}}]}
    return pod(**statuses)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), Pending.NO_GPU),
        (
            unschedulable("0/3 nodes are available: 3 Insufficient cpu, 2 Insufficient memory."),
            Pending.NO_NODE,
        ),
        (unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint."), Pending.NO_NODE),
        (unschedulable(None), Pending.NO_NODE),
        (waiting("ImagePullBackOff"), Pending.IMAGE),
        (waiting("ErrImagePull", "initContainerStatuses"), Pending.IMAGE),
        (waiting("CreateContainerConfigError"), Pending.OTHER),
        (pod(), Pending.OTHER),
        (pod("Running"), Pending.OTHER),
        (pod("Failed"), Pending.OTHER),
    ],
)
def test_a_pod_that_does_not_start_says_why(found: dict[str, Any], kind: Pending) -> None:
    assert pending_for(JOB, [found]) is kind


def test_a_job_without_a_pod_has_met_a_quota_or_a_policy() -> None:
    assert pending_for(JOB, []) is Pending.QUOTA


def test_a_suspended_job_waits_for_its_queue() -> None:
    assert pending_for({**JOB, "spec": {"suspend": True}}, []) is Pending.SUSPENDED


def test_a_job_that_is_being_deleted_is_something_else() -> None:
    job = {**JOB, "metadata": {"name": "x", "deletionTimestamp": "2026-11-25T10:00:00Z"}}
    assert pending_for(job, []) is Pending.OTHER
