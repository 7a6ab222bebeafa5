"""Every profile renders, and keeps the guarantees of pods, names and rights."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from tests.chart.rendering import CHART, PROFILES, Document, container, cores, environment, template

EVERY = pytest.mark.parametrize("profile", PROFILES)


def test_profiles_are_the_documented_ones() -> None:
    assert set(PROFILES) == {"airgapped", "kueue", "minikube-cpu", "no-kserve", "production-gpu"}


@EVERY
def test_every_pod_meets_the_restricted_standard(profile: str) -> None:
    pods = list(template(profile=profile).pods())
    assert len(pods) == 5
    for _, spec in pods:
        _is_restricted(spec)
        assert not spec.get("hostNetwork")
        assert not spec.get("hostPID")
        assert all(set(volume) & {"emptyDir", "configMap", "secret"} for volume in spec["volumes"])


def _is_restricted(spec: Document) -> None:
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 10001,
        "runAsGroup": 10001,
        "fsGroup": 10001,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container(spec)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }


@EVERY
def test_only_the_adapter_mounts_a_token(profile: str) -> None:
    rendered = template(profile=profile)
    for owner, spec in rendered.pods():
        assert spec["automountServiceAccountToken"] is (owner == "Deployment/loop-fitloop"), owner
    for account in rendered.of("ServiceAccount").values():
        assert account["automountServiceAccountToken"] is False


@EVERY
def test_every_volume_and_container_has_limits(profile: str) -> None:
    for owner, spec in template(profile=profile).pods():
        resources = container(spec)["resources"]
        assert {"cpu", "memory"} <= resources["requests"].keys(), owner
        assert "memory" in resources["limits"], owner
        folders = [volume["emptyDir"] for volume in spec["volumes"] if "emptyDir" in volume]
        assert folders, f"{owner} has no /tmp"
        assert all(folder["sizeLimit"] for folder in folders), owner


@EVERY
def test_probes_use_the_management_port(profile: str) -> None:
    rendered = template(profile=profile)
    for owner, spec in _servers(rendered.pods()):
        server = container(spec)
        for probe, path in (("startup", "/livez"), ("readiness", "/readyz"), ("liveness", "/livez")):
            asked = server[f"{probe}Probe"]["httpGet"]
            assert asked["path"] == path, owner
            assert asked["port"] in {"management", 8081}, owner
    routed = {
        port["targetPort"] for service in rendered.of("Service").values() for port in service["spec"]["ports"]
    }
    assert routed == {"http", 8080}


@EVERY
def test_servers_drain_before_they_stop(profile: str) -> None:
    for owner, spec in _servers(template(profile=profile).pods()):
        drains = container(spec)["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert drains >= 5, owner
        assert spec["terminationGracePeriodSeconds"] >= drains + 30, owner


def _servers(pods: Any) -> list[tuple[str, Document]]:
    found = [(owner, spec) for owner, spec in pods if not owner.startswith(("Job/", "Pod/"))]
    assert len(found) == 2
    return found


@EVERY
def test_updates_keep_the_old_pod_until_the_new_is_ready(profile: str) -> None:
    rendered = template(profile=profile)
    gentle = {"maxUnavailable": 0, "maxSurge": 1}
    one_by_one = {"maxUnavailable": 1, "maxSurge": 0}
    """A surge pod would wait for a GPU that does not exist."""
    for deployment in rendered.of("Deployment").values():
        assert deployment["spec"]["strategy"]["rollingUpdate"] == gentle
        assert deployment["spec"]["replicas"] == 2
    for service in rendered.of("InferenceService").values():
        strategy = service["spec"]["predictor"]["deploymentStrategy"]["rollingUpdate"]
        assert strategy == (one_by_one if profile == "production-gpu" else gentle)
    budgets = rendered.of("PodDisruptionBudget").values()
    assert [budget["spec"]["maxUnavailable"] for budget in budgets] == [1, 1]
    for _, spec in _servers(rendered.pods()):
        assert spec["topologySpreadConstraints"][0]["topologyKey"] == "kubernetes.io/hostname"


@EVERY
@pytest.mark.parametrize("release", ["loop", "a" * 53])
def test_names_and_labels_fit_kubernetes_limits(profile: str, release: str) -> None:
    """Including derived names: a pod of KServe's Deployment, a Job of project 123456789."""
    rendered = template(profile=profile, release=release)
    for one in rendered.objects:
        name = one["metadata"]["name"]
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
        assert len(name) <= 63
        for value in (one["metadata"].get("labels") or {}).values():
            assert re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?", value)
            assert len(value) <= 63
    (lease,) = rendered.of("Lease")
    assert len(f"{lease}-predictor-54b8ddbb5f") <= 63
    assert len(f"{lease}-123456789-1234-0") <= 63


def test_truncated_names_stay_distinct() -> None:
    """Short release names are unchanged."""
    assert set(template(release="loop").of("Lease")) == {"loop-fitloop"}
    assert set(template(release="fitloop-" + "a" * 32).of("Lease")) == {"fitloop-" + "a" * 32}
    stem = "label-studio-text-classification-eu-west-1"
    leases = [set(template(release=f"{stem}-{end}").of("Lease")) for end in ("aa", "bb")]
    overridden = [set(template({"fullnameOverride": f"{stem}-{end}"}).of("Lease")) for end in ("aa", "bb")]
    assert len({name for found in (*leases, *overridden) for name in found}) == 4


@EVERY
def test_rbac_rules_are_minimal(profile: str) -> None:
    rendered = template(profile=profile)
    assert not {"ClusterRole", "ClusterRoleBinding"} & {one["kind"] for one in rendered.objects}
    kserve = bool(rendered.of("InferenceService"))
    workload = (
        ("serving.kserve.io", "inferenceservices", ("loop-fitloop",), ("get", "patch"))
        if kserve
        else ("apps", "deployments", ("loop-fitloop-serving",), ("get", "patch"))
    )
    rules = {
        (group, kind, tuple(rule.get("resourceNames", ())), tuple(rule["verbs"]))
        for rule in rendered.one("Role", "loop-fitloop")["rules"]
        for group in rule["apiGroups"]
        for kind in rule["resources"]
    }
    assert rules == {
        ("batch", "jobs", (), ("create", "get", "list", "watch", "delete")),
        ("", "pods", (), ("get", "list", "watch")),
        ("events.k8s.io", "events", (), ("create", "patch")),
        ("coordination.k8s.io", "leases", ("loop-fitloop",), ("get", "update")),
        workload,
    }
    (subject,) = rendered.one("RoleBinding", "loop-fitloop")["subjects"]
    assert subject["name"] == "loop-fitloop-adapter"


@EVERY
def test_each_process_mounts_only_its_own_keys(profile: str) -> None:
    names = {"Deployment/loop-fitloop": "adapter", "Job/run": "trainer"}
    for owner, spec in template(profile=profile).pods():
        mounted = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        if owner.startswith("Pod/"):
            assert not mounted
        else:
            assert mounted == {f"s3-{names.get(owner, 'predictor')}"}
        variables = environment(container(spec))
        assert ("LABEL_STUDIO_API_KEY" in variables) is (owner in names)


@EVERY
def test_images_come_only_from_the_configured_registry(profile: str) -> None:
    rendered = template({"image": {"registry": "images.example.test/mine", "tag": "7"}}, profile)
    images = {container(spec)["image"] for _, spec in rendered.pods()}
    assert images == {f"images.example.test/mine/{one}:7" for one in ("adapter", "predictor", "trainer")}


def test_templates_name_no_registry() -> None:
    for path in (CHART / "templates").rglob("*.*"):
        assert not re.search(r"\b(docker|quay|ghcr|gcr|registry\.k8s)\.io/", path.read_text()), path


def test_requests_fit_a_small_cluster() -> None:
    """All requests together: pods, a surge pod of each server, a run and a `helm test` pod."""
    rendered = template(profile="minikube-cpu")
    asked = {owner: cores(container(spec)["resources"]["requests"]["cpu"]) for owner, spec in rendered.pods()}
    servers = 3 * asked["Deployment/loop-fitloop"] + 3 * asked["InferenceService/loop-fitloop"]
    assert servers + asked["Job/run"] + asked["Pod/loop-fitloop-test-adapter"] <= 1.5


def test_the_gpu_profile_requests_gpus() -> None:
    rendered = template(profile="production-gpu")
    for owner in ("InferenceService/loop-fitloop", "Job/run"):
        assert container(rendered.pod(owner))["resources"]["limits"]["nvidia.com/gpu"] == 1
    assert environment(container(rendered.pod("Job/run")))["FITLOOP_REQUIRE_GPU"] == "true"
    variables = environment(container(rendered.pod("InferenceService/loop-fitloop")))
    assert (variables["FITLOOP_DEVICE"], variables["FITLOOP_ROLLOUT_MODE"]) == ("cuda", "reload")


def test_profiles_contain_only_values() -> None:
    for profile in PROFILES:
        assert isinstance(yaml.safe_load((CHART / "profiles" / f"{profile}.yaml").read_text()), dict)
