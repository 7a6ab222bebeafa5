"""Attempts, outcomes, waiting reasons and pending kinds of Jobs and pods."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cluster.job_status import (
    attempts_of,
    failure_reason,
    launch_state_from_status,
    launch_state_of,
    outcome_of,
    pending_kind,
    pod_waiting_reason,
    unschedulable_reason,
    waiting_reason,
)
from services.core.domain import Attempt, LaunchState, Pending, RunState, RunStatus
from tests.support.jobs import CREATED, build_job, build_pod, timestamp

SOON, LATE = CREATED + 10, CREATED + 1000

GPU = (
    "0/3 nodes are available: 1 node(s) had untolerated taint {x: y}, 2 Insufficient nvidia.com/gpu. "
    "preemption: 0/3 nodes are available: 3 No preemption victims found for incoming pod."
)


def test_outcome_follows_job_conditions() -> None:
    assert outcome_of(build_job()) is None
    assert outcome_of(build_job("a", ("Complete", ""))) is RunState.DONE
    assert outcome_of(build_job("a", ("SuccessCriteriaMet", ""))) is None
    assert outcome_of(build_job("a", ("FailureTarget", "BackoffLimitExceeded"))) is None
    assert outcome_of(build_job("a", ("Failed", "BackoffLimitExceeded"))) is RunState.FAILED
    untrue = build_job("a", ("Failed", "x"))
    untrue["status"]["conditions"][0]["status"] = "False"
    assert outcome_of(untrue) is None


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("PodFailurePolicy", "its pod failed in a way that a retry would not fix (PodFailurePolicy)"),
        ("BackoffLimitExceeded", "its pods failed too often (BackoffLimitExceeded)"),
        ("DeadlineExceeded", "it exceeded its time limit (DeadlineExceeded)"),
        ("Other", "its Job failed (Other)"),
    ],
)
def test_failure_reasons(reason: str, sentence: str) -> None:
    launch = launch_state_of("1-1", build_job("a", ("Failed", reason)), [], None, SOON)
    assert launch == LaunchState("1-1", (), RunState.FAILED, reason=sentence)
    assert failure_reason(build_job("a", ("Failed", reason))) == sentence


def test_each_pod_is_an_attempt() -> None:
    pods = [
        build_pod("b", started=CREATED + 40),
        build_pod("a", "Failed", started=CREATED + 5, ended=CREATED + 30, code=75),
        build_pod("c", "Pending", waiting={"reason": "ContainerCreating"}),
    ]
    launch = launch_state_of("1-1", build_job(), pods, None, SOON)
    assert launch.attempts == (
        Attempt(1, CREATED + 5, CREATED + 30, 75),
        Attempt(2, CREATED + 40, None, None),
    )
    assert launch.waiting == ""


def test_indexed_job_counts_pods_of_index_0() -> None:
    pods = [build_pod("a", started=CREATED + 5, index=0), build_pod("b", started=CREATED + 6, index=1)]
    assert len(attempts_of(pods, ())) == 1


def test_attempts_outlive_their_pods() -> None:
    known = (Attempt(1, CREATED + 1, CREATED + 2, 75), Attempt(2, CREATED + 20, None, None))
    pods = [build_pod("c", started=CREATED + 40)]
    assert attempts_of(pods, known) == (*known, Attempt(3, CREATED + 40))
    assert attempts_of([], known) == known


def test_unseen_attempt_ends_with_its_job() -> None:
    known = LaunchState("1-1", (Attempt(1, CREATED + 1),))
    launch = launch_state_of("1-1", build_job("a", ("Failed", "DeadlineExceeded")), [], known, LATE)
    assert launch.attempts == (Attempt(1, CREATED + 1, CREATED + 100, None),)


def test_unstarted_container_starts_with_its_pod() -> None:
    """The container runtime reports 1970 in that case."""
    (attempt,) = attempts_of([build_pod("a", "Failed", started=0.0, ended=CREATED + 3, code=128)], ())
    assert attempt == Attempt(1, CREATED, CREATED + 3, 128)


def test_fields_of_a_later_release_survive() -> None:
    known = LaunchState("1-1", (Attempt(1, CREATED + 5, unknown={"node": "a"}),), unknown={"queue": "b"})
    pods = [build_pod("a", "Failed", started=CREATED + 5, ended=CREATED + 30, code=75)]
    launch = launch_state_of("1-1", build_job(), pods, known, SOON)
    assert launch.attempts == (Attempt(1, CREATED + 5, CREATED + 30, 75),)
    assert (launch.unknown, launch.attempts[0].unknown) == ({"queue": "b"}, {"node": "a"})


def test_known_outcome_is_kept() -> None:
    known = LaunchState("1-1", (), RunState.CANCELLED)
    assert launch_state_of("1-1", build_job("a", ("Complete", "")), [], known, LATE) == known


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (GPU, "no node has a free nvidia.com/gpu"),
        (
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory.",
            "no node has enough free cpu and memory",
        ),
        (
            "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. preemption: none.",
            "no node accepts its pod (0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector)",
        ),
        ("", "no node accepts its pod"),
    ],
)
def test_unschedulable_reasons(message: str, reason: str) -> None:
    assert unschedulable_reason(message) == reason


@pytest.mark.parametrize(
    ("waiting", "reason"),
    [
        (
            {"reason": "ImagePullBackOff", "message": "x"},
            "its image img:1 cannot be pulled (ImagePullBackOff)",
        ),
        (
            {"reason": "CreateContainerConfigError", "message": 'secret "s3" not found'},
            'its container cannot start: CreateContainerConfigError (secret "s3" not found)',
        ),
        ({"reason": "CreateContainerError"}, "its container cannot start: CreateContainerError"),
        ({"reason": "ContainerCreating"}, ""),
    ],
)
def test_container_waiting_reasons(waiting: dict[str, str], reason: str) -> None:
    pods = [build_pod("a", "Pending", waiting=waiting)]
    assert waiting_reason(build_job(), pods, SOON) == reason


def test_job_waiting_reasons() -> None:
    pending = [build_pod("a", "Pending", unschedulable=GPU)]
    assert waiting_reason(build_job(), pending, SOON) == "no node has a free nvidia.com/gpu"
    assert waiting_reason(build_job(), [*pending, build_pod("b", started=1)], SOON) == ""
    suspended = build_job()
    suspended["spec"]["suspend"] = True
    assert "waits for its queue" in waiting_reason(suspended, [], SOON)
    ending = build_job()
    ending["metadata"]["deletionTimestamp"] = "x"
    assert "is being deleted" in waiting_reason(ending, [], SOON)


def test_pod_on_a_lost_node_is_reported() -> None:
    ending = build_pod("a", started=1)
    ending["spec"] = {"nodeName": "node-7"}
    assert waiting_reason(build_job(), [ending], LATE) == ""
    ending["metadata"]["deletionTimestamp"] = timestamp(CREATED + 30)
    assert waiting_reason(build_job(), [ending], CREATED + 31) == ""
    assert "node-7 may be lost" in waiting_reason(build_job(), [ending], LATE)
    assert "kubectl describe pod a" in waiting_reason(build_job(), [ending], LATE)


def test_slow_start_is_reported_after_90_seconds() -> None:
    creating = build_pod("a", "Pending", waiting={"reason": "ContainerCreating"})
    assert waiting_reason(build_job(), [creating], SOON) == ""
    assert "kubectl describe pod a" in waiting_reason(build_job(), [creating], LATE)
    assert pod_waiting_reason(creating) == ""
    assert waiting_reason(build_job(), [], SOON) == ""
    assert "a quota or a policy may refuse it" in waiting_reason(build_job(), [], LATE)
    assert waiting_reason(build_job(failed=1), [], LATE) == ""


def test_launch_from_status_without_a_job() -> None:
    status = RunStatus("1-1", RunState.FAILED, exit_code=65, attempt=2, updated_at=CREATED + 9)
    known = LaunchState("1-1", (Attempt(1, CREATED, CREATED + 1, 75), Attempt(2, CREATED + 2)))
    assert launch_state_from_status(status, known) == LaunchState(
        "1-1", (known.attempts[0], Attempt(2, CREATED + 2, CREATED + 9, 65)), RunState.FAILED
    )
    assert launch_state_from_status(status, None).attempts == (Attempt(2, CREATED + 9, CREATED + 9, 65),)


times = st.integers(0, 50).map(lambda seconds: CREATED + seconds)


@given(st.lists(times, unique=True, max_size=6), st.lists(times, unique=True, max_size=6), st.randoms())
def test_attempts_are_numbered_by_time(known: list[float], seen: list[float], random: object) -> None:
    before = tuple(Attempt(number, at, at + 1, 75) for number, at in enumerate(sorted(known), start=1))
    found = attempts_of([build_pod(f"p{at}", started=at, ended=at + 1, code=1) for at in seen], before)
    assert [one.started_at for one in found] == sorted({*known, *seen})
    assert [one.number for one in found] == list(range(1, len(found) + 1))
    assert {one.started_at for one in found if one.exit_code == 1} == set(seen)


@given(times, st.booleans())
def test_launch_of_is_idempotent(at: float, over: bool) -> None:
    found = build_job("a", ("Failed", "x")) if over else build_job()
    pods = [build_pod("a", "Failed", started=at, ended=at + 1, code=1)]
    once = launch_state_of("1-1", found, pods, None, SOON)
    assert launch_state_of("1-1", found, pods, once, LATE) == once
    unseen = launch_state_of("1-1", found, [], once, SOON)
    assert replace(unseen, waiting="") == replace(once, waiting="")


JOB: dict[str, Any] = {"metadata": {"name": "fitloop-1-1"}, "spec": {}, "status": {}}


def build_pending_pod(phase: str = "Pending", **status: Any) -> dict[str, Any]:
    return {"metadata": {"name": "p"}, "status": {"phase": phase, **status}}


def build_unschedulable(message: str | None) -> dict[str, Any]:
    return build_pending_pod(conditions=[{"type": "PodScheduled", "status": "False", "message": message}])


def build_waiting_container(reason: str, kind: str = "containerStatuses") -> dict[str, Any]:
    statuses: dict[str, Any] = {kind: [{"name": "trainer", "state": {"waiting": {"reason": reason}}}]}
    return build_pending_pod(**statuses)


@pytest.mark.parametrize(
    ("found", "kind"),
    [
        (build_unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu."), Pending.NO_GPU),
        (
            build_unschedulable("0/3 nodes are available: 3 Insufficient cpu, 2 Insufficient memory."),
            Pending.NO_NODE,
        ),
        (build_unschedulable("0/1 nodes are available: 1 node(s) had untolerated taint."), Pending.NO_NODE),
        (build_unschedulable(None), Pending.NO_NODE),
        (build_waiting_container("ImagePullBackOff"), Pending.IMAGE),
        (build_waiting_container("ErrImagePull", "initContainerStatuses"), Pending.IMAGE),
        (build_waiting_container("CreateContainerConfigError"), Pending.OTHER),
        (build_pending_pod(), Pending.OTHER),
        (build_pending_pod("Running"), Pending.OTHER),
        (build_pending_pod("Failed"), Pending.OTHER),
    ],
)
def test_pending_kind_of_a_pod(found: dict[str, Any], kind: Pending) -> None:
    assert pending_kind(JOB, [found]) is kind


def test_job_without_pods_is_pending_for_quota() -> None:
    assert pending_kind(JOB, []) is Pending.QUOTA


def test_suspended_job_is_pending_as_suspended() -> None:
    assert pending_kind({**JOB, "spec": {"suspend": True}}, []) is Pending.SUSPENDED


def test_deleting_job_is_pending_as_other() -> None:
    job = {**JOB, "metadata": {"name": "x", "deletionTimestamp": "2026-11-25T10:00:00Z"}}
    assert pending_kind(job, []) is Pending.OTHER
