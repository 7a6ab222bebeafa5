"""When a rolling update starts, completes, is rolled back and is resumed."""

from __future__ import annotations

from typing import Any

from services.cluster.pods import PredictorPod, pod_of
from services.cluster.rolling_update import (
    RETRY_SECONDS,
    FailedRollout,
    RollingUpdate,
    RolloutPlan,
    is_rolled_out,
    loading_status,
    progress_status,
    resume_plan,
    suspects,
    timeout_reason,
)
from services.engine.compute import VersionKey

NAME = VersionKey("5-1", "v-2")


def build_pod(number: int = 1, generation: str = "", *, ready: bool = True, **others: Any) -> PredictorPod:
    return PredictorPod(f"pod-{number}", ready, generation, **({"responds": ready} | others))


def build_loaded_pod(number: int = 1, generation: str = "") -> PredictorPod:
    return build_pod(number, generation, loaded=frozenset({NAME}))


def test_loaded_once_every_ready_pod_has_the_version() -> None:
    assert loading_status([build_loaded_pod(1), build_loaded_pod(2), build_pod(3, ready=False)], NAME).done
    assert loading_status([], NAME).reason == "no predictor is ready"
    assert (
        loading_status([build_pod(ready=False, waiting_reason="no node has room")], NAME).reason
        == "no predictor is ready: no node has room"
    )
    assert (
        loading_status([build_loaded_pod(1), build_pod(2)], NAME).reason == "1 of 2 predictors have loaded it"
    )
    assert (
        loading_status([build_pod(2, responds=False)], NAME).reason
        == "0 of 1 predictors have loaded it (pod-2 does not answer)"
    )
    assert (
        "(no memory)"
        in loading_status([build_loaded_pod(1), build_pod(2, delayed={NAME: "no memory"})], NAME).reason
    )


def test_update_is_done_once_enough_pods_are_new_and_ready() -> None:
    assert is_rolled_out([build_pod(1, "7"), build_pod(2, "7")], "7", 2)
    assert not is_rolled_out([build_pod(1, "7")], "7", 2)
    assert not is_rolled_out([build_pod(1, "7"), build_pod(2, "6")], "7", 2)
    assert not is_rolled_out([build_pod(1, "7"), build_pod(2, "7", ready=False)], "7", 2)


def test_update_progress_and_timeout_reasons() -> None:
    pods = [
        build_pod(1, "6"),
        build_pod(2, "7", ready=False, waiting_reason="no node has a free nvidia.com/gpu"),
    ]
    assert (
        progress_status(pods, "7").reason
        == "0 of 2 predictors are new and ready: no node has a free nvidia.com/gpu"
    )
    assert timeout_reason(pods, "7").endswith(
        "did not become ready in time: no node has a free nvidia.com/gpu"
    )
    assert timeout_reason([build_pod(1, "6")], "7").endswith("in time")


def test_one_update_at_a_time_after_the_min_interval() -> None:
    plan = RolloutPlan()
    assert plan.wait_status(1000.0, 60) is None
    plan = plan.start("", 1000.0)
    assert plan.update == RollingUpdate("1000000", 1000.0, "")
    waits = plan.finish().wait_status(1010.0, 60)
    assert waits is not None
    assert waits.reason == "the next rolling update starts in 50 s"
    assert plan.finish().wait_status(1060.0, 60) is None


def test_failed_rollout_backs_off_to_an_hour() -> None:
    failed, now, waits = FailedRollout(), 0.0, []
    for _ in range(20):
        failed = failed.fail("no node has room", now, position=0)
        waits.append(failed.until - now)
        status = failed.wait_status(now + 1)
        assert status is not None
        assert (status.blocked, status.deferred) == (True, True)
        assert status.reason.startswith("no node has room; retried in")
        now = failed.until
        assert failed.wait_status(now) is None
    assert waits[:4] == [RETRY_SECONDS, 2 * RETRY_SECONDS, 4 * RETRY_SECONDS, 8 * RETRY_SECONDS]
    assert max(waits) == 3600


def test_failed_versions_are_retried_one_by_one() -> None:
    assert [FailedRollout().fail("", 0.0, place).until / RETRY_SECONDS for place in range(3)] == [1, 2, 3]


def test_suspects_are_versions_missing_in_new_pods() -> None:
    other = VersionKey("6-1", "w-1")
    pods = [build_pod(1, "6"), build_pod(2, "7", ready=False, responds=True, loaded=frozenset({NAME}))]
    assert suspects(pods, "7", [NAME, other]) == [other]
    assert suspects(pods[:1], "7", [NAME, other]) == [NAME, other]
    assert suspects(pods, "7", [NAME]) == [NAME], "another pod, which does not start, may be its doing"


def test_new_leader_resumes_an_update() -> None:
    pods = [build_pod(1, "500000"), build_pod(2, "1000000", ready=False)]
    assert resume_plan("1000000", pods, 1200.0) == RolloutPlan(
        RollingUpdate("1000000", 1000.0, "500000"), 1000.0
    )
    assert resume_plan("1000000", [build_pod(1), build_pod(2)], 1200.0).update == RollingUpdate(
        "1000000", 1000.0, ""
    )


def test_new_leader_knows_when_the_last_update_started() -> None:
    plan = resume_plan("1000000", [build_pod(1, "1000000")], 1010.0)
    assert plan == RolloutPlan(last_started=1000.0)
    assert plan.wait_status(1010.0, 60)
    assert resume_plan("", [build_pod(1)], 1010.0) == RolloutPlan()
    assert resume_plan("", [], 1010.0) == RolloutPlan()
    assert resume_plan("written by hand", [build_pod(1, "written by hand")], 1010.0) == RolloutPlan()
    assert resume_plan("9000000", [build_pod(1, "9000000")], 1010.0).last_started == 1010.0, (
        "a clock that is ahead holds up nothing"
    )


def test_new_leader_does_not_resume_a_rolled_back_update() -> None:
    for annotation in ("500000", ""):
        plan = resume_plan(
            annotation, [build_pod(1, annotation), build_pod(2, "1000000", ready=False)], 1200.0
        )
        assert plan.update is None
        assert plan.last_started == 1000.0
        assert plan.blocked_until == 1200.0 + RETRY_SECONDS


def test_pod_status_combines_api_and_pod_state() -> None:
    meta = {"name": "p-1", "annotations": {"fitloop.io/generation": "7"}}
    ready = {"conditions": [{"type": "Ready", "status": "True"}]}
    state = {
        "held": {"5-1": ["v-1", "v-2"]},
        "refused": {"5-1": {"v-3": "broken"}},
        "delayed": {"6-1": {"w-1": "slow"}},
        "encoders": ["e"],
    }
    found = pod_of({"metadata": meta, "status": ready}, state)
    assert found == PredictorPod(
        "p-1",
        True,
        "7",
        frozenset({VersionKey("5-1", "v-1"), VersionKey("5-1", "v-2")}),
        {VersionKey("5-1", "v-3"): "broken"},
        {VersionKey("6-1", "w-1"): "slow"},
        True,
        encoders=frozenset({"e"}),
    )
    assert pod_of({"metadata": meta, "status": ready}, {"held": {}}).encoders is None, "an earlier release"
    silent = pod_of({"metadata": {"name": "p-1"}, "status": ready}, None)
    assert (silent.ready, silent.responds, silent.loaded) == (True, False, frozenset())


def test_crash_looping_pod_has_a_reason() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
    status = {
        "containerStatuses": [
            {"name": "kserve-container", "ready": False, "lastState": ended, "state": {"running": {}}}
        ]
    }
    assert "137 (OOMKilled)" in pod_of({"metadata": {"name": "p-1"}, "status": status}, None).waiting_reason
