"""What the launcher does at the Kubernetes API, over HTTP. Real Jobs are tested on a real cluster."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.cluster import informer
from services.cluster.client import ClusterError
from services.cluster.events import EventRecorder
from services.cluster.jobs import JobLauncher
from services.core.domain import Attempt, LaunchState, Parameters, RunRequest, RunState, RunStatus
from services.core.runs import Runs
from services.core.store.files import FileStore
from tests.support.api_server import FakeApiServer, serve_api
from tests.support.jobs import CREATED, MANIFEST, build_job, build_pod
from tests.support.waiting import eventually
from tests.support.workers import InlineWorkers

REQUEST = RunRequest("1-1", "1-x", 1, "asked for", Parameters(), 0.0)
NAME = "fitloop-1-1"


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as running:
        running.put("leases", {"kind": "Lease", "metadata": {"name": "fitloop"}})
        yield running


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    found = Runs(FileStore(tmp_path))
    found.write(REQUEST)
    return found


class BuildLauncher:
    """Builds launchers as processes would, and closes them."""

    def __init__(self, api: FakeApiServer, runs: Runs) -> None:
        self.api, self.runs = api, runs
        self.made: list[JobLauncher] = []
        self.changed: list[str] = []
        self.workers = InlineWorkers()
        self.is_leading = True

    def __call__(self, *, start: bool = True) -> JobLauncher:
        kube = self.api.kube()
        events = EventRecorder(kube, "deployment/fitloop-serving", "test")
        made = JobLauncher(
            kube,
            self.runs.store,
            MANIFEST,
            "fitloop",
            "fitloop",
            self.changed.append,
            events,
            self.workers,
            lambda: CREATED + 10,
            lambda: self.is_leading,
        )
        self.made.append(made)
        if start:
            made.start()
            assert made.jobs.listed.wait(10)
            assert made.pods.listed.wait(10)
        return made


@pytest.fixture
def make(api: FakeApiServer, runs: Runs, monkeypatch: pytest.MonkeyPatch) -> Iterator[BuildLauncher]:
    monkeypatch.setattr(informer, "_MIN_PAUSE", 0.05)
    monkeypatch.setattr(informer, "_MAX_PAUSE", 0.1)
    made = BuildLauncher(api, runs)
    yield made
    for launcher in made.made:
        launcher.close()


def outcome(launcher: JobLauncher) -> RunState | None:
    launch = launcher.observe("1-1")
    return launch.outcome if launch else None


def test_launch_creates_one_job_owned_by_the_lease(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    for _ in range(3):
        launcher.launch(REQUEST)
    (found,) = api.list_objects("jobs")
    assert found["metadata"]["name"] == NAME
    (owner,) = found["metadata"]["ownerReferences"]
    assert owner == {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "name": "fitloop",
        "uid": api.objects["leases", "fitloop"]["metadata"]["uid"],
        "controller": False,
        "blockOwnerDeletion": False,
    }
    assert api.count_requests("POST", "jobs") == 1
    asked = len(api.asked)
    launcher.launch(REQUEST)
    assert len(api.asked) == asked


def test_job_has_no_owner_without_a_lease(api: FakeApiServer, make: BuildLauncher) -> None:
    api.remove("leases", "fitloop")
    make().launch(REQUEST)
    assert "ownerReferences" not in api.list_objects("jobs")[0]["metadata"]


def test_no_launch_before_jobs_are_listed(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make(start=False)
    with pytest.raises(ClusterError, match="The list of Jobs is not known yet"):
        launcher.launch(REQUEST)
    assert launcher.observe("1-1") is None
    assert api.list_objects("jobs") == []


def test_existing_job_is_adopted(api: FakeApiServer, make: BuildLauncher) -> None:
    """The answer to its creation was lost, or another leader was faster."""
    launcher = make()
    with api.lock:
        api.objects["jobs", NAME] = build_job()  # no watch tells of it
        api.objects["jobs", NAME]["metadata"]["resourceVersion"] = "1"
    launcher.launch(REQUEST)
    launcher.launch(REQUEST)
    assert api.count_requests("POST", "jobs") == 1
    assert launcher.observe("1-1") == LaunchState("1-1")


@pytest.mark.parametrize("other", [{"run": "1-2"}, {"mark": "5.000000"}])
def test_job_of_another_request_is_not_adopted(
    api: FakeApiServer, make: BuildLauncher, other: dict[str, str]
) -> None:
    api.put("jobs", build_job(NAME, ("Complete", ""), **other))
    launcher = make()
    with pytest.raises(ClusterError, match=f"kubectl delete job {NAME}"):
        launcher.launch(REQUEST)
    assert launcher.observe("1-1") is None
    launcher.cancel("1-1")
    assert len(api.list_objects("jobs")) == 1


def test_vanished_job_is_created_in_the_next_step(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    api.faults.append(("POST", 409, {}))
    with pytest.raises(ClusterError, match="existed a moment ago"):
        launcher.launch(REQUEST)
    launcher.launch(REQUEST)
    assert len(api.list_objects("jobs")) == 1


def test_observe_writes_launch_json(api: FakeApiServer, make: BuildLauncher, runs: Runs) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    api.put("pods", build_pod("p", "Pending", unschedulable="1 Insufficient nvidia.com/gpu."))
    waits = LaunchState("1-1", (), None, "no node has a free nvidia.com/gpu", pending="no_gpu")
    eventually(lambda: launcher.observe("1-1") == waits)
    api.put("pods", build_pod("p", started=CREATED + 1))
    eventually(lambda: launcher.observe("1-1") == LaunchState("1-1", (Attempt(1, CREATED + 1),)))
    api.put("pods", build_pod("p", "Succeeded", started=CREATED + 1, ended=CREATED + 3, code=0))
    api.put("jobs", build_job(NAME, ("Complete", "")))
    eventually(lambda: outcome(launcher))
    done = LaunchState("1-1", (Attempt(1, CREATED + 1, CREATED + 3, 0),), RunState.DONE)
    assert runs.launch_state("1-1") == done
    api.remove("jobs", NAME)
    api.remove("pods", "p")
    other = make()
    assert other.observe("1-1") == done
    other.launch(REQUEST)
    assert api.list_objects("jobs") == []


def test_finished_job_has_exit_codes(api: FakeApiServer, make: BuildLauncher) -> None:
    """The watch of pods may lag behind that of Jobs."""
    launcher = make()
    launcher.launch(REQUEST)
    with api.lock:
        api.objects["pods", "p"] = build_pod("p", "Failed", started=CREATED + 1, ended=CREATED + 3, code=65)
        api.objects["pods", "p"]["metadata"]["resourceVersion"] = "1"
    api.put("jobs", build_job(NAME, ("Failed", "PodFailurePolicy")))
    eventually(lambda: outcome(launcher))
    launch = launcher.observe("1-1")
    assert launch is not None
    assert [attempt.exit_code for attempt in launch.attempts] == [65]
    assert "PodFailurePolicy" in launch.reason


def test_outcome_is_known_without_its_pods(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    api.faults += [("GET", 403, {})]
    launcher.jobs.put(build_job(NAME, ("Failed", "DeadlineExceeded")))
    assert outcome(launcher) is RunState.FAILED


def test_unreachable_api_keeps_the_last_state(
    api: FakeApiServer, runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(informer, "_MAX_PAUSE", 0.1)
    other = FakeApiServer()
    make = BuildLauncher(other, runs)
    with serve_api(other):
        launcher = make()
        launcher.launch(REQUEST)
        other.put("pods", build_pod("p", started=CREATED + 1))
        eventually(lambda: (found := launcher.observe("1-1")) and found.attempts)
        known = launcher.observe("1-1")
    eventually(lambda: launcher.jobs.error)
    assert launcher.observe("1-1") == known
    launcher.launch(REQUEST)
    fresh = RunRequest("2-1", "2-x", 2, "asked for", Parameters(), 0.0)
    runs.write(fresh)
    with pytest.raises(ClusterError, match="does not answer"):
        launcher.launch(fresh)
    other.put("jobs", build_job(NAME, ("Complete", "")))
    with serve_api(other):
        eventually(lambda: outcome(launcher) is RunState.DONE)
        launcher.launch(fresh)
        launcher.close()
    assert len(other.list_objects("jobs")) == 2


def test_deleted_job_is_recreated_after_its_pods_end(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    api.put("pods", build_pod("p", started=CREATED + 1))
    eventually(lambda: (found := launcher.observe("1-1")) and found.attempts)
    api.remove("jobs", NAME)
    eventually(lambda: launcher.jobs.get(NAME) is None)
    launcher.launch(REQUEST)
    assert api.list_objects("jobs") == []
    launch = launcher.observe("1-1")
    assert launch is not None
    assert launch.waiting == "its Job was deleted, and the Job's pods are still terminating"
    api.remove("pods", "p")
    eventually(lambda: not launcher.pods.all())
    launcher.launch(REQUEST)
    assert len(api.list_objects("jobs")) == 1
    again = launcher.observe("1-1")
    assert again is not None
    assert (len(again.attempts), again.waiting, again.outcome) == (1, "", None)


def test_finished_run_is_not_launched_again(api: FakeApiServer, make: BuildLauncher, runs: Runs) -> None:
    """Its Job's time to live ended before the first observation."""
    runs.write(RunStatus("1-1", RunState.DONE, exit_code=0, updated_at=CREATED + 5))
    launcher = make()
    launcher.launch(REQUEST)
    assert api.list_objects("jobs") == []
    assert outcome(launcher) is RunState.DONE
    assert runs.launch_state("1-1") == launcher.observe("1-1")


def test_failed_status_waits_for_an_unwatched_job(
    api: FakeApiServer, make: BuildLauncher, runs: Runs
) -> None:
    launcher = make()
    launcher.jobs.close()
    runs.write(RunStatus("1-1", RunState.FAILED, exit_code=1, updated_at=CREATED + 9))
    api.put("jobs", build_job())
    assert outcome(launcher) is None
    assert launcher.jobs.get(NAME)


def test_cancel_deletes_the_job_for_good(api: FakeApiServer, make: BuildLauncher, runs: Runs) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    launcher.cancel("1-1")
    assert api.list_objects("jobs") == []
    assert outcome(launcher) is RunState.CANCELLED
    launcher.launch(REQUEST)
    make().launch(REQUEST)
    assert api.list_objects("jobs") == []
    launcher.cancel("1-1")
    assert runs.launch_state("1-1") == LaunchState("1-1", (), RunState.CANCELLED)


def test_cancel_before_launch_is_final(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.cancel("1-1")
    launcher.launch(REQUEST)
    assert api.list_objects("jobs") == []
    assert launcher.observe("1-1") == LaunchState("1-1", (), RunState.CANCELLED)


def test_cancel_after_the_end_changes_nothing(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    api.put("jobs", build_job(NAME, ("Complete", "")))
    eventually(lambda: outcome(launcher))
    launcher.cancel("1-1")
    assert outcome(launcher) is RunState.DONE
    assert len(api.list_objects("jobs")) == 1


def test_failed_job_deletion_is_retried(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    api.faults.append(("DELETE", 403, {}))
    launcher.cancel("1-1")
    assert len(api.list_objects("jobs")) == 1
    assert outcome(launcher) is RunState.CANCELLED
    make()  # it looks at all Jobs there are, as each does once a minute
    eventually(lambda: not api.list_objects("jobs"))


def test_jobs_outlive_the_adapter(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    launcher.close()
    assert len(api.list_objects("jobs")) == 1
    other = make()
    other.launch(REQUEST)
    assert api.count_requests("POST", "jobs") == 1


def test_events_never_block_observe(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    api.faults += [("POST", 500, {})] * 2
    launcher.recorder.start()
    launcher.cancel("1-1")
    launcher.recorder.record("RolloutStarted", "New predictors load it.")
    launcher.recorder.record("RolloutBlocked", "No node.", warning=True)
    eventually(lambda: api.list_objects("events"))
    (event,) = copy.deepcopy(api.list_objects("events"))
    assert event["reason"] == "RolloutBlocked"


def test_api_that_hangs_delays_no_call(api: FakeApiServer, make: BuildLauncher, runs: Runs) -> None:
    launcher = make()
    make.workers.held = {"create", "delete", "pods", "find"}
    for _ in range(3):
        launcher.launch(REQUEST)
    assert make.workers.submitted == [("create", "1-1")]
    assert launcher.observe("1-1") is None
    make.workers.release()
    assert api.count_requests("POST", "jobs") == 1
    make.workers.held = {"create", "delete", "pods", "find"}
    api.put("pods", build_pod("p", "Succeeded", started=CREATED + 1, ended=CREATED + 3, code=0))
    launcher.jobs.put(build_job(NAME, ("Complete", "")))
    assert outcome(launcher) is None, "its exit codes are being asked for"
    make.workers.release()
    assert outcome(launcher) is RunState.DONE
    assert runs.launch_state("1-1") == launcher.observe("1-1")


def test_job_created_after_its_run_was_cancelled_is_deleted(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    make.workers.held = {"create"}
    launcher.launch(REQUEST)
    launcher.cancel("1-1")
    make.workers.release()
    assert api.count_requests("POST", "jobs") == 1
    assert api.list_objects("jobs") == []
    assert outcome(launcher) is RunState.CANCELLED


def test_no_job_is_created_after_the_lead_was_lost(api: FakeApiServer, make: BuildLauncher) -> None:
    make.is_leading = False
    launcher = make()
    launcher.launch(REQUEST)
    assert api.list_objects("jobs") == []
    make.is_leading = True
    launcher.launch(REQUEST)
    assert len(api.list_objects("jobs")) == 1


def test_changes_name_active_runs_only(api: FakeApiServer, make: BuildLauncher) -> None:
    launcher = make()
    launcher.launch(REQUEST)
    make.changed.clear()
    api.put("pods", build_pod("p", started=CREATED + 1))
    eventually(lambda: "1-1" in make.changed)
    launcher.cancel("1-1")
    eventually(lambda: launcher.jobs.get(NAME) is None)
    make.changed.clear()
    api.remove("pods", "p")
    eventually(lambda: not launcher.pods.all())
    assert make.changed == []
