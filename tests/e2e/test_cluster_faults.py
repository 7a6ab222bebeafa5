"""Failures of a cluster, and the guarantees that hold. One release for all tests, in the order of the file."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from tests.e2e.conftest import Connect, LabelledProject, MakeRelease
from tests.e2e.load import Load
from tests.e2e.processes import cluster_process, pod_process, suspended
from tests.e2e.release import Release
from tests.support.waiting import eventually

pytestmark = [pytest.mark.labelstudio, pytest.mark.cluster, pytest.mark.wide]
PROBES_SECONDS = 6.0
"""After this time no ingress sends requests to a suspended adapter, even on a busy machine."""
FINETUNE = {"method": "finetune", "num_train_epochs": "12"}


@dataclass
class Running:
    """A release that serves a first version."""

    release: Release
    labelled: LabelledProject
    first: str

    def versions(self) -> list[str]:
        """Return the names of all versions, newest first."""
        return [
            str(row["version"]) for row in self.release.state(self.labelled.project).get("versions") or ()
        ]

    def one_more(self) -> None:
        """Train another version, whatever the gate decides."""
        before = set(self.versions())
        self.release.send_command(self.labelled.project, "train", parameters={"seed": str(len(before) + 100)})
        eventually(lambda: set(self.versions()) - before, 240, what="one more version")
        self.rest()

    def rest(self) -> None:
        """Wait until no run is active or queued."""

        def resting() -> bool:
            state = self.release.state(self.labelled.project)
            at_rest = bool(state) and not state["active"] and not state["pending"]
            return at_rest and state["changed"] < self.release.every_n_updates

        eventually(resting, 240, what="no run goes on, nor is about to begin")


@pytest.fixture(scope="module")
def running(make_releases: MakeRelease, connect_once: Connect) -> Running:
    """Install one release for the whole module."""
    values: dict[str, Any] = {
        "training": {"method": "linear-probe", "checkpointSeconds": 2},
        "rollout": {"minIntervalSeconds": 20},
    }
    release = make_releases(**values)
    release.install()
    labelled = connect_once(release)
    labelled.label(0, 30)
    found = Running(release, labelled, release.served(labelled.project))
    found.rest()
    return found


def _without_failure(load: Load) -> None:
    print(load.report())
    assert not load.failures(), load.report()


@pytest.mark.parametrize("component", ["adapter", "predictor"])
def test_deleting_a_pod_fails_no_request(running: Running, component: str) -> None:
    release = running.release
    with release.load(running.labelled) as load:
        gone = release.pods(component)[0]["metadata"]["name"]
        release.namespace.kubectl("delete", "pod", gone, "--wait=true")
        _settles(load, release, component)
    _without_failure(load)


def test_killing_a_predictor_fails_no_request(running: Running) -> None:
    release = running.release
    with release.load(running.labelled) as load:
        os.kill(pod_process(release.pods("predictor")[0]["metadata"]["name"]), signal.SIGKILL)
        eventually(lambda: _restarts(release, "predictor") > 0, 30, what="its container is started again")
        _settles(load, release, "predictor")
    _without_failure(load)


def test_killing_an_adapter_fails_only_requests_in_flight(running: Running) -> None:
    release = running.release
    with release.load(running.labelled) as load:
        os.kill(pod_process(release.pods("adapter")[0]["metadata"]["name"]), signal.SIGKILL)
        eventually(lambda: _restarts(release, "adapter") > 0, 30, what="its container is started again")
        _settles(load, release, "adapter")
    print(load.report())
    assert len(load.failures()) <= 2, load.report()


def test_a_suspended_leader_is_replaced(running: Running) -> None:
    """Another replica takes over within 30 s, and requests made meanwhile are handled once.

    A process that stands still accepts connections until its probe has failed twice: what it got by then is lost.
    """
    release = running.release
    leader = eventually(release.leader, 60, what="a leader")
    before = len(running.versions())
    with release.load(running.labelled) as load:
        with suspended(pod_process(leader)):
            began = time.time()
            eventually(lambda: release.leader() not in {"", leader}, 40, what="another leader")
            running.labelled.label(30, 41)
            eventually(lambda: len(running.versions()) == before + 1, 120, what="one more version")
        running.rest()
    assert len(running.versions()) == before + 1
    table = release.bucket.document("serving.json")
    assert table["projects"][running.labelled.key]["current"]
    print(load.report())
    assert not [one for one in load.failures() if one.began > began + PROBES_SECONDS], load.report()


def test_an_api_server_outage_loses_no_labels(running: Running) -> None:
    """An outage of 60 s loses no label, and one Job is created."""
    release, labelled = running.release, running.labelled
    before = set(_jobs(release))
    with suspended(cluster_process("kube-apiserver")):
        labelled.label(41, 52)
        threading.Event().wait(60)
    eventually(lambda: len(set(_jobs(release)) - before) == 1, 120, what="one Job")
    eventually(
        lambda: release.state(labelled.project).get("changed") == 0, 240, what="all labels are trained on"
    )
    running.rest()
    assert len(set(_jobs(release)) - before) == 1


def test_predictions_work_while_the_bucket_is_down(running: Running) -> None:
    with running.release.load(running.labelled) as load, suspended(cluster_process("minio")):
        threading.Event().wait(60)
    asked = [answer for answer in load.answers if answer.path in {"/predict", "/setup", "/health"}]
    print(load.report())
    assert asked
    assert not [answer for answer in load.failures() if answer.path != "/webhook"], load.report()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_resumes_after_its_pod_is_deleted(running: Running, number: signal.Signals) -> None:
    release, project = running.release, running.labelled.project
    running.rest()
    release.send_command(project, "train", parameters={**FINETUNE, "seed": str(int(number))})
    run = eventually(lambda: _checkpointed(release), 180, what="a checkpoint")
    pod = eventually(lambda: _running_pod(release, run), 30, what="its pod")
    os.kill(pod_process(pod), number)
    lineage = eventually(lambda: _lineage_of(running, run), 400, what="its version")
    assert lineage["resumed_from"]
    running.rest()


def test_five_promotions_cause_at_most_two_rollouts(running: Running) -> None:
    release, project = running.release, running.labelled.project
    running.rest()
    names = running.versions()
    before = _revisions(release)
    with release.load(running.labelled) as load:
        for turn in range(5):
            release.send_command(project, "promote", version=names[turn % 2])
            threading.Event().wait(2)
        last = names[4 % 2]
        eventually(lambda: release.setup_version(project) == last, 180, what=f"{last} is served")
        eventually(lambda: _ready(release, "predictor") == 2, 120, what="two predictors are ready")
    release.send_command(project, "unpin")
    assert len(_revisions(release) - before) <= 2
    _without_failure(load)


def test_a_corrupt_version_is_refused(running: Running, connect_once: Connect) -> None:
    release, key = running.release, running.labelled.key
    other = connect_once(release)
    other.label(0, 30)
    Running(release, other, release.served(other.project)).rest()
    theirs = release.setup_version(other.project)
    victim = next(
        name for name in running.versions() if name != release.setup_version(running.labelled.project)
    )
    weights = next(one for one in release.bucket.keys(f"projects/{key}/versions/{victim}/") if "model" in one)
    data = bytearray(release.bucket.read(weights))
    data[len(data) // 2] ^= 1
    release.bucket.write(weights, bytes(data))
    serving = release.setup_version(running.labelled.project)
    release.send_command(running.labelled.project, "promote", version=victim)
    eventually(
        lambda: "differs" in release.state(running.labelled.project)["problem"], 180, what="it is refused"
    )
    assert release.setup_version(running.labelled.project) == serving
    assert release.setup_version(other.project) == theirs


def test_upgrade_and_rollback_fail_no_request(running: Running) -> None:
    release = running.release
    with release.load(running.labelled) as load:
        release.upgrade({"logging": {"level": "DEBUG"}})
        release.namespace.helm("rollback", release.name, "--wait", "--timeout", "4m")
    _without_failure(load)


def test_kserve_can_be_disabled_and_enabled(running: Running) -> None:
    """The Service stays the same; helm deletes the old predictors first, so there may be a short gap."""
    release = running.release
    serving = release.setup_version(running.labelled.project)
    for enabled in (False, True):
        release.upgrade({"kserve": {"enabled": enabled}})
        with release.client() as client:
            eventually(lambda: client.get("/api/predictors").is_success, 120, what="predictors answer")
        with release.load(running.labelled) as load:
            eventually(lambda: len(load.answers) > 30, 60, what="thirty answers")
        _without_failure(load)
        assert release.setup_version(running.labelled.project) == serving


def test_a_version_is_reloaded_in_place(running: Running) -> None:
    """With rollout.mode=reload the same pods load it beside the current version."""
    release, labelled = running.release, running.labelled
    release.upgrade({"rollout": {"mode": "reload"}})
    before = {pod["metadata"]["name"] for pod in release.pods("predictor")}
    serving = release.setup_version(labelled.project)
    running.one_more()
    other = next(name for name in running.versions() if name != serving)
    with release.load(labelled) as load:
        release.send_command(labelled.project, "promote", version=other)
        assert release.served(labelled.project, other_than=serving) == other
    release.send_command(labelled.project, "unpin")
    assert {pod["metadata"]["name"] for pod in release.pods("predictor")} == before
    _without_failure(load)


def test_a_suspended_job_is_reported_as_waiting(running: Running) -> None:
    """As with a queue: nothing runs until the Job is resumed."""
    release, project = running.release, running.labelled.project
    release.upgrade({"trainer": {"suspend": True}})
    before = set(running.versions())
    release.send_command(project, "train", parameters={"seed": "11"})
    run = eventually(release.active_run, 60, what="a run")
    eventually(lambda: "suspended" in release.state(project)["sentence"], 60, what="it says that it waits")
    release.namespace.kubectl(
        "patch", "job", f"{release.fullname}-{run}", "--type=merge", "-p", '{"spec": {"suspend": false}}'
    )
    eventually(lambda: set(running.versions()) - before, 180, what="its version")
    running.rest()
    release.upgrade({"trainer": {"suspend": False}})


def test_two_pods_train_one_version(running: Running) -> None:
    """Both pods of an Indexed Job train one model."""
    release, project = running.release, running.labelled.project
    running.rest()
    release.upgrade({"trainer": {"pods": 2, "resources": {"requests": {"cpu": "100m"}}}})
    release.send_command(
        project, "train", parameters={"method": "finetune", "num_train_epochs": "2", "seed": "12"}
    )
    run = eventually(release.active_run, 60, what="a run")

    def job() -> dict[str, Any]:
        return release.namespace.get("job", f"{release.fullname}-{run}")

    eventually(lambda: job()["status"].get("succeeded") == 2, 300, what="both pods have ended well")
    assert job()["spec"]["completionMode"] == "Indexed"
    assert release.bucket.document(f"runs/{run}/status.json")["published"]
    running.rest()
    release.upgrade({"trainer": {"pods": 1}})


def test_a_job_without_a_gpu_fails_with_a_reason(running: Running) -> None:
    """The test cluster only pretends to have a GPU: a Job that requires one is scheduled and exits with 78."""
    release, project = running.release, running.labelled.project
    nodes = json.loads(release.namespace.kubectl("get", "nodes", "-o", "json"))["items"]
    if not any(int(node["status"]["allocatable"].get("nvidia.com/gpu", 0)) for node in nodes):
        pytest.skip("no node has an nvidia.com/gpu, not even a pretended one")
    running.rest()
    release.upgrade({"trainer": {"allowCpu": False, "gpus": 1, "pods": 1}})
    release.send_command(project, "train", parameters={"method": "linear-probe", "seed": "78"})
    run = eventually(release.active_run, 60, what="a run")
    eventually(
        lambda: "allowCpu" in release.state(project)["problem"], 180, what="it says that there is no GPU"
    )
    assert release.bucket.document(f"runs/{run}/launch.json")["attempts"][-1]["exit_code"] == 78


def _settles(load: Load, release: Release, component: str) -> None:
    """Wait until two pods are ready and the load has gone on for a while."""
    eventually(lambda: _ready(release, component) == 2, 90, what="two are ready again")
    enough = len(load.answers) + 40
    eventually(lambda: len(load.answers) > enough, 60, what="forty more answers")


def _restarts(release: Release, component: str) -> int:
    pods = release.pods(component)
    return sum(
        one.get("restartCount", 0) for pod in pods for one in pod["status"].get("containerStatuses") or ()
    )


def _ready(release: Release, component: str) -> int:
    return sum(
        any(
            one["type"] == "Ready" and one["status"] == "True"
            for one in pod["status"].get("conditions") or ()
        )
        for pod in release.pods(component)
    )


def _jobs(release: Release) -> list[str]:
    """Return the training runs that have a Job; one that embeds the pool may begin at any moment."""
    runs = [
        job["metadata"]["name"].removeprefix(f"{release.fullname}-")
        for job in release.namespace.items("jobs")
    ]
    return [
        run
        for run in runs
        if release.bucket.document(f"runs/{run}/request.json").get("kind", "train") == "train"
    ]


def _revisions(release: Release) -> set[str]:
    return {
        one["metadata"]["name"]
        for one in release.namespace.items("replicasets", "app.kubernetes.io/component=predictor")
    }


def _checkpointed(release: Release) -> str:
    state = release.active_run()
    keys = release.bucket.keys(f"runs/{state}/checkpoints/") if state else []
    return state if any(key.endswith(".safetensors") for key in keys) else ""


def _lineage_of(running: Running, run: str) -> dict[str, Any]:
    """Return the lineage of the version that the run made; {} before it is published."""
    bucket, folder = running.release.bucket, f"projects/{running.labelled.key}/versions"
    manifests = [bucket.document(f"{folder}/{version}/manifest.json") for version in running.versions()]
    return next((dict(one["lineage"]) for one in manifests if one["lineage"]["run"] == run), {})


def _running_pod(release: Release, run: str) -> str:
    pods = release.namespace.items("pods", f"fitloop.io/run={run}")
    return next((pod["metadata"]["name"] for pod in pods if pod["status"]["phase"] == "Running"), "")
