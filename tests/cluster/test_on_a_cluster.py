"""Jobs on a real cluster: waiting reasons, suspension, outcomes, and sufficient permissions."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from services.cluster.client import ClusterError, Document, Kube
from services.cluster.events import EventRecorder
from services.cluster.job_template import dry_run, job_name
from services.cluster.jobs import JobLauncher
from services.cluster.lease import LeaseLeadership
from services.core.domain import LaunchState, Parameters, RunRequest, RunState
from services.core.errors import BadConfig
from services.core.runs import Runs
from services.core.store.files import FileStore
from tests.support.cluster import MARKS, Namespace, build_manifest, temporary_namespace
from tests.support.waiting import eventually
from tests.support.workers import InlineWorkers

pytestmark = [pytest.mark.slow, *MARKS]
REQUEST = RunRequest("1-1", "1-x", 1, "asked for", Parameters(), 0.0)
RIGHTS = (
    (["batch"], ["jobs"], ["create", "get", "list", "watch", "delete"]),
    ([""], ["pods"], ["get", "list", "watch"]),
    (["", "events.k8s.io"], ["events"], ["create", "patch"]),
    (["coordination.k8s.io"], ["leases"], ["create", "get", "update"]),
)
Make = Callable[..., JobLauncher]
_numbers = count(1)


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    with temporary_namespace() as made:
        yield made


@pytest.fixture
def make(namespace: Namespace, tmp_path: Path) -> Iterator[Make]:
    release, made = f"r{next(_numbers)}", list[JobLauncher]()
    store = FileStore(tmp_path)
    Runs(store).write(REQUEST)

    def make(template: Document, kube: Kube | None = None) -> JobLauncher:
        kube = kube or namespace.kube
        events = EventRecorder(kube, "deployment/none", "test")
        events.start()
        made.append(
            JobLauncher(kube, store, template, release, "fitloop", lambda _: None, events, InlineWorkers())
        )
        made[-1].start()
        assert made[-1].jobs.listed.wait(30)
        return made[-1]

    yield make
    for launcher in made:
        launcher.cancel("1-1")
        launcher.close()


def seen(launcher: JobLauncher) -> LaunchState:
    return launcher.observe("1-1") or LaunchState("1-1")


def test_missing_gpu_is_the_waiting_reason(make: Make) -> None:
    template = build_manifest()
    template["spec"]["template"]["spec"]["containers"][0]["resources"] = {"limits": {"nvidia.com/gpu": 64}}
    launcher = make(template)
    launcher.launch(REQUEST)
    eventually(lambda: seen(launcher).waiting == "no node has a free nvidia.com/gpu", what="the reason")
    launcher.cancel("1-1")
    assert seen(launcher).outcome is RunState.CANCELLED


def test_suspended_job_waits_then_runs(make: Make, namespace: Namespace) -> None:
    template = build_manifest()
    template["spec"]["suspend"] = True
    launcher = make(template)
    launcher.launch(REQUEST)
    eventually(lambda: "waits for its queue" in seen(launcher).waiting)
    namespace.kube.patch("job", job_name(launcher.release, "1-1"), {"spec": {"suspend": False}})
    eventually(lambda: seen(launcher).outcome is RunState.DONE)
    assert [attempt.exit_code for attempt in seen(launcher).attempts] == [0]


def test_missing_image_is_the_waiting_reason(make: Make) -> None:
    template = build_manifest()
    (trainer,) = template["spec"]["template"]["spec"]["containers"]
    trainer["image"] = "fitloop.invalid/none:1"
    launcher = make(template)
    launcher.launch(REQUEST)
    eventually(lambda: "its image fitloop.invalid/none:1 cannot be pulled" in seen(launcher).waiting)


def test_missing_secret_is_the_waiting_reason(make: Make) -> None:
    template = build_manifest()
    (trainer,) = template["spec"]["template"]["spec"]["containers"]
    trainer["env"].append({"name": "A", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "A"}}})
    launcher = make(template)
    launcher.launch(REQUEST)
    eventually(lambda: 'CreateContainerConfigError (secret "absent" not found)' in seen(launcher).waiting)


def test_exit_75_is_retried_up_to_the_job_limit(make: Make) -> None:
    launcher = make(build_manifest("exit 75"))
    launcher.launch(REQUEST)
    eventually(lambda: seen(launcher).outcome is RunState.FAILED, 90)
    assert [attempt.exit_code for attempt in seen(launcher).attempts] == [75, 75]
    assert "BackoffLimitExceeded" in seen(launcher).reason


def test_deleted_job_is_created_again(make: Make, namespace: Namespace) -> None:
    launcher = make(build_manifest("wait"))
    launcher.launch(REQUEST)
    eventually(lambda: seen(launcher).attempts)
    name = job_name(launcher.release, "1-1")
    before = namespace.kube.get("job", name)
    assert before is not None
    namespace.kube.delete("job", name)

    def again() -> bool:
        launcher.launch(REQUEST)
        found = launcher.jobs.get(name)
        return found is not None and found["metadata"]["uid"] != before["metadata"]["uid"]

    eventually(again)
    eventually(lambda: len(seen(launcher).attempts) == 2)
    first, second = seen(launcher).attempts
    assert second.started_at >= (first.ended_at or 0)
    assert seen(launcher).outcome is None


def test_dry_run_names_the_wrong_field(namespace: Namespace) -> None:
    template = build_manifest(tolerations="none")
    with pytest.raises(BadConfig, match="tolerations"):
        dry_run(namespace.kube, template, "fitloop", "s3://b/p/")
    template = build_manifest()
    template["spec"]["template"]["spec"]["containers"][0]["resorces"] = {}
    with pytest.raises(BadConfig, match=r"containers\[0\].resorces"):
        dry_run(namespace.kube, template, "fitloop", "s3://b/p/")
    dry_run(namespace.kube, build_manifest(), "fitloop", "s3://b/p/")


@pytest.fixture
def adapter(namespace: Namespace) -> Kube:
    """A client with only the adapter's permissions."""
    rbac: Any = client.RbacAuthorizationV1Api(namespace.api)
    core: Any = client.CoreV1Api(namespace.api)
    rules = [{"apiGroups": groups, "resources": kinds, "verbs": verbs} for groups, kinds, verbs in RIGHTS]
    core.create_namespaced_service_account(namespace.name, {"metadata": {"name": "adapter"}})
    rbac.create_namespaced_role(namespace.name, {"metadata": {"name": "adapter"}, "rules": rules})
    binding = {
        "metadata": {"name": "adapter"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "adapter"},
        "subjects": [{"kind": "ServiceAccount", "name": "adapter", "namespace": namespace.name}],
    }
    rbac.create_namespaced_role_binding(namespace.name, binding)
    token = core.create_namespaced_service_account_token("adapter", namespace.name, {"spec": {}}).status.token
    known = namespace.api.configuration
    configuration = client.Configuration()
    configuration.host, configuration.ssl_ca_cert, configuration.retries = (
        known.host,
        known.ssl_ca_cert,
        False,
    )
    configuration.api_key = {"authorization": token, "BearerToken": token}
    configuration.api_key_prefix = {"authorization": "Bearer", "BearerToken": "Bearer"}
    api = client.ApiClient(configuration)
    return Kube(namespace.name, client.CustomObjectsApi(api), client.CoreV1Api(api))


def test_adapter_role_is_sufficient_and_minimal(make: Make, adapter: Kube, namespace: Namespace) -> None:
    eventually(lambda: _is_allowed(adapter), what="the Role is known to the API")
    lease = LeaseLeadership(adapter, "fitloop", "pod-a")
    lease.start(lambda: None)
    eventually(lease.leads)
    launcher = make(build_manifest(), adapter)
    launcher.launch(REQUEST)
    eventually(lambda: seen(launcher).outcome is RunState.DONE)
    found = namespace.kube.get("job", job_name(launcher.release, "1-1"))
    assert found is not None
    assert found["metadata"]["ownerReferences"][0]["name"] == "fitloop"
    eventually(lambda: namespace.kube.items("event", "")[0] and _has_event(namespace, "RunDone"))
    lease.stop()
    with pytest.raises(
        ClusterError, match=f"No permission to get deployments.apps in namespace {namespace.name}: the Role"
    ):
        adapter.get("deployment", "fitloop")


def _is_allowed(kube: Kube) -> bool:
    try:
        kube.items("job", "")
    except ClusterError:
        return False
    return True


def _has_event(namespace: Namespace, reason: str) -> bool:
    return any(event.get("reason") == reason for event in namespace.kube.items("event", "")[0])
