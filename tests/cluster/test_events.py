"""Events are recorded once, from a thread, and errors stay there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from services.cluster import events as module
from services.cluster.events import EventRecorder
from tests.support.api_server import NAMESPACE, FakeApiServer, serve_api
from tests.support.waiting import eventually


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as running:
        running.put(
            "inferenceservices", {"kind": "InferenceService", "metadata": {"name": "fitloop", "uid": "u1"}}
        )
        running.put("jobs", {"kind": "Job", "metadata": {"name": "fitloop-1-1", "uid": "u2"}})
        yield running


def test_event_regards_workload_or_job_by_uid(api: FakeApiServer) -> None:
    events = EventRecorder(api.kube(), "inferenceservice/fitloop", "pod-a")
    events.start()
    events.record("RolloutStarted", "New predictors load v-1.")
    events.record("RunFailed", "Run 1-1 is failed.", warning=True, job="fitloop-1-1")
    events.record("RunDone", "Run 1-2 is done.", job="fitloop-1-2")
    eventually(lambda: len(api.list_objects("events")) == 3)
    first, second, third = api.list_objects("events")
    assert first["regarding"] == {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "name": "fitloop",
        "namespace": NAMESPACE,
        "uid": "u1",
    }
    assert (first["type"], first["reason"], first["action"]) == ("Normal", "RolloutStarted", "RolloutStarted")
    assert first["reportingInstance"] == "pod-a"
    assert second["regarding"] == {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "name": "fitloop-1-1",
        "namespace": NAMESPACE,
        "uid": "u2",
    }
    assert second["type"] == "Warning"
    assert "uid" not in third["regarding"]


def test_repeated_event_is_recorded_once(api: FakeApiServer) -> None:
    events = EventRecorder(api.kube(), "inferenceservice/fitloop", "pod-a")
    for _ in range(5):
        events.record("A", "same")
    events.record("A", "other")
    events.start()
    eventually(lambda: len(api.list_objects("events")) == 2)


def test_record_never_blocks(api: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 10)
    events = EventRecorder(api.kube(), "inferenceservice/fitloop", "pod-a")
    for number in range(200):
        events.record("A", str(number))
    api.faults += [("POST", 403, {})]
    events.start()
    eventually(lambda: len(api.list_objects("events")) == 99)
