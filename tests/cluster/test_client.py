"""Requests to the Kubernetes API, and the errors that faults become."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes.client import ApiException

from services.cluster import client
from services.cluster.client import ClusterError, api_error, connect
from services.core.errors import BadConfig
from tests.support.api_server import NAMESPACE, FakeApiServer, serve_api
from tests.support.metrics import metric_value

LEASE = {
    "apiVersion": "coordination.k8s.io/v1",
    "kind": "Lease",
    "metadata": {"name": "a", "labels": {"x": "1"}},
}


@pytest.fixture
def api() -> Iterator[FakeApiServer]:
    with serve_api(FakeApiServer()) as running:
        yield running


def test_create_get_replace_patch_delete(api: FakeApiServer) -> None:
    kube = api.kube()
    made = kube.create("lease", LEASE)
    assert kube.get("lease", "a") == made
    assert kube.items("lease", "x=1")[0] == [made]
    assert kube.items("lease", "x=2")[0] == []
    assert kube.patch("lease", "a", {"spec": {"holderIdentity": "me"}})["spec"] == {"holderIdentity": "me"}
    kube.delete("lease", "a")
    kube.delete("lease", "a")
    assert kube.get("lease", "a") is None


def test_pods_use_the_core_api(api: FakeApiServer) -> None:
    api.put("pods", {"kind": "Pod", "metadata": {"name": "p", "labels": {"x": "1"}}})
    assert [pod["metadata"]["name"] for pod in api.kube().pods("x=1")] == ["p"]
    assert api.asked[-1][1] == f"/api/v1/namespaces/{NAMESPACE}/pods"


def test_replace_conflicts_with_a_newer_object(api: FakeApiServer) -> None:
    kube = api.kube()
    read = kube.create("lease", LEASE)
    kube.replace("lease", "a", {**read, "spec": {"holderIdentity": "me"}})
    with pytest.raises(ClusterError, match="modified") as refused:
        kube.replace("lease", "a", {**read, "spec": {"holderIdentity": "you"}})
    assert refused.value.status == 409


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_reads_are_retried_when_busy_or_disconnected(api: FakeApiServer, status: int) -> None:
    api.put("leases", LEASE)
    api.faults += [("GET", status, {"Retry-After": "0"})] * 2
    assert api.kube().get("lease", "a")
    api.faults += [("GET", status, {"Retry-After": "0"})] * 3
    with pytest.raises(ClusterError) as failed:
        api.kube().items("lease", "")
    assert failed.value.status == status


def test_create_is_not_retried(api: FakeApiServer) -> None:
    api.faults += [("POST", 500, {})]
    with pytest.raises(ClusterError):
        api.kube().create("lease", LEASE)
    assert api.count_requests("POST", "leases") == 1


def test_unreachable_api_fails_within_the_timeout(api: FakeApiServer) -> None:
    api.answering.clear()
    with pytest.raises(ClusterError, match="does not answer") as silent:
        api.kube((0.2, 0.2)).get("lease", "a")
    assert silent.value.status == 0
    assert len(api.asked) == 1
    api.answering.set()
    nowhere = FakeApiServer(port=9)
    with pytest.raises(ClusterError, match="does not answer"):
        nowhere.kube().get("lease", "a")


def test_watch_yields_later_events_and_ends(api: FakeApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "WATCH_SECONDS", 1)
    api.put("leases", LEASE)
    _, version = api.kube().items("lease", "")
    api.put("leases", {**LEASE, "spec": {}})
    api.remove("leases", "a")
    events = list(api.kube().watch("lease", "x=1", version))
    assert [event["type"] for event in events] == ["MODIFIED", "DELETED"]


def test_watch_from_an_expired_version_is_410(api: FakeApiServer) -> None:
    api.oldest = 1000
    with pytest.raises(ClusterError) as gone:
        list(api.kube().watch("lease", "", "1"))
    assert gone.value.status == 410


def test_disconnected_watch_is_an_error(api: FakeApiServer) -> None:
    watch = api.kube().watch("lease", "", "1")
    api.put("leases", LEASE)
    next(watch)
    api.cut += 1
    with pytest.raises(ClusterError, match="broke off"):
        next(watch)


def _refused(status: int, message: str) -> str:
    error = ApiException(status=status, reason="No")
    error.body = json.dumps({"message": message})
    return str(api_error("create", "job", "here", error))


def test_forbidden_names_verb_resource_and_role() -> None:
    sentence = _refused(
        403, 'jobs.batch is forbidden: User "x" cannot create resource "jobs" in API group "batch"'
    )
    assert sentence.startswith(
        "No permission to create jobs.batch in namespace here: the Role of this service account"
    )


def test_quota_is_not_reported_as_missing_right() -> None:
    sentence = _refused(403, 'jobs.batch "x" is forbidden: exceeded quota')
    assert sentence == (
        'Kubernetes refused to create jobs.batch in namespace here (403): jobs.batch "x" is forbidden: exceeded quota'
    )


def test_non_json_error_keeps_its_status() -> None:
    answer = ApiException(status=502, reason="Bad Gateway")
    answer.body = "<html>"
    error = api_error("get", "pod", "here", answer)
    assert (error.status, str(error)) == (
        502,
        "Kubernetes refused to get pods in namespace here (502): Bad Gateway",
    )


def test_connect_without_a_cluster_is_bad_config(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(client, "_NAMESPACE", tmp_path / "none")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(tmp_path / "none"))
    with pytest.raises(BadConfig, match="No Kubernetes cluster is configured"):
        connect("here")


def test_connect_reads_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, api: FakeApiServer
) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(api.kubeconfig())
    monkeypatch.setattr(client, "_NAMESPACE", tmp_path / "none")
    monkeypatch.setattr("kubernetes.config.kube_config.KUBE_CONFIG_DEFAULT_LOCATION", str(path))
    assert connect("here").get("lease", "a") is None


def requests(outcome: str) -> float:
    return metric_value("fitloop_kubernetes_requests_total", outcome=outcome)


@pytest.mark.parametrize(
    ("status", "outcome"), [(404, "not_found"), (409, "conflict"), (403, "failed"), (500, "failed")]
)
def test_requests_are_counted_by_outcome(api: FakeApiServer, status: int, outcome: str) -> None:
    before = requests(outcome)
    api.faults.append(("POST", status, {}))
    with pytest.raises(ClusterError):
        api.kube().create("lease", {"metadata": {"name": "a"}})
    assert requests(outcome) == before + 1


def test_requests_count_as_ok_or_unreachable(api: FakeApiServer) -> None:
    ok, away = requests("ok"), requests("unreachable")
    api.kube().create("lease", {"metadata": {"name": "a"}})
    assert requests("ok") == ok + 1
    with serve_api(FakeApiServer()) as other:
        kube = other.kube()
    with pytest.raises(ClusterError):
        kube.get("lease", "a")
    assert requests("unreachable") == away + 1
