"""The admission policy on a real API server: it admits the adapter's own Jobs and rollouts and refuses everything else."""

from __future__ import annotations

import copy
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import yaml

from services.cluster.job_template import render_job
from services.core.domain import Parameters, RunRequest
from tests.chart.rendering import Document, Rendered, template
from tests.support.waiting import eventually

ON: Document = {"admissionPolicy": {"enabled": True}, "kserve": {"enabled": False}}


def test_cluster_wide_objects_are_opt_in() -> None:
    assert "admissionregistration" not in template().text
    made = template(ON, "minikube-cpu", "--namespace=own")
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
        assert set(made.of(kind)) == {"own.loop-fitloop.jobs", "own.loop-fitloop.predictors"}


def test_a_volume_the_policy_cannot_check_is_refused_by_name() -> None:
    volume = {"name": "data", "nfs": {"server": "a", "path": "/"}}
    refusal = template({**ON, "trainer": {"extraVolumes": [volume]}}).refusal
    assert "the volume data is none of them" in refusal


@dataclass(frozen=True, slots=True)
class Judge:
    """A namespace where the policy is in force; requests are made as the adapter."""

    namespace: str
    rendered: Rendered

    def asked(self, verb: str, *arguments: str, text: str = "") -> str:
        """Return the API server's refusal, or "". Nothing is stored."""
        who = f"--as=system:serviceaccount:{self.namespace}:loop-fitloop-adapter"
        done = _kubectl("-n", self.namespace, who, verb, "--dry-run=server", *arguments, text=text)
        return done.stderr if done.returncode else ""

    def create(self, change: Callable[[Document], object] = lambda job: None) -> str:
        """Create a run's Job as the launcher renders it, with a change."""
        request = RunRequest("12-3", "12-1", 12, "a person asked", Parameters(), 1.0)
        job = copy.deepcopy(
            render_job(self.rendered.job, request, "loop-fitloop", "s3://bucket/prefix", None)
        )
        change(job)
        return self.asked("create", "-f", "-", text=json.dumps(job))


def _kubectl(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """Install everything but pods into a namespace."""
    if not os.environ.get("KUBECONFIG") or not shutil.which("kubectl"):
        pytest.skip("no cluster to ask: set KUBECONFIG, and put kubectl on PATH (see tests/e2e/README.md)")
    name = f"fitloop-admission-{secrets.token_hex(3)}"
    values: Document = {**ON, "adapter": {"replicas": 1}, "predictor": {"replicas": 1}}
    rendered = template(values, "minikube-cpu", f"--namespace={name}")
    kinds = {"Lease", "Role", "RoleBinding", "ServiceAccount", "Deployment"}
    wanted = [one for one in rendered.objects if one["kind"] in kinds or "Admission" in one["kind"]]
    for one in wanted:
        if one["kind"] == "Deployment":
            one["spec"]["replicas"] = 0
    assert _kubectl("create", "namespace", name).returncode == 0
    made = _kubectl("-n", name, "apply", "-f", "-", text=yaml.safe_dump_all(wanted))
    try:
        assert made.returncode == 0, made.stderr
        found = Judge(name, rendered)
        eventually(lambda: found.create(_another_image), 60, what="the policy is in force")
        yield found
    finally:
        _kubectl("delete", "namespace", name, "--wait=false")
        for kind in ("validatingadmissionpolicybinding", "validatingadmissionpolicy"):
            _kubectl("delete", kind, f"{name}.loop-fitloop.jobs", f"{name}.loop-fitloop.predictors")


def _pod(job: Document) -> Any:
    return job["spec"]["template"]["spec"]


def _another_image(job: Document) -> None:
    _pod(job)["containers"][0]["image"] = "evil.example/miner:1"


def _volume(source: Document) -> Callable[[Document], object]:
    return lambda job: _pod(job)["volumes"].append({"name": "more", **source})


def _env(**source: Any) -> Callable[[Document], object]:
    return lambda job: _pod(job)["containers"][0]["env"].append({"name": "MORE", "valueFrom": source})


def _own(**fields: Any) -> Callable[[Document], object]:
    return lambda job: _pod(job).update(fields)


def _container(**fields: Any) -> Callable[[Document], object]:
    return lambda job: _pod(job)["containers"][0].update(fields)


def _beside(kind: str, image: str) -> Callable[[Document], object]:
    return lambda job: _pod(job).setdefault(kind, []).append({"name": "beside", "image": image})


HOSTILE: dict[str, tuple[Callable[[Document], object], str]] = {
    "another image": (_another_image, "another image"),
    "an image beside it": (_beside("containers", "evil.example/a"), "another image"),
    "an image before it": (_beside("initContainers", "evil.example/a"), "another image"),
    "our image with privileges before it": (_beside("initContainers", "fitloop/trainer:0.1.0"), "privileges"),
    "another service account": (_own(serviceAccountName="default"), "another service account"),
    "the adapter's own account": (_own(serviceAccountName="loop-fitloop-adapter"), "another service account"),
    "a token": (_own(automountServiceAccountToken=True), "a token of a service account"),
    "another Secret as a volume": (_volume({"secret": {"secretName": "other"}}), "another volume"),
    "another ConfigMap": (_volume({"configMap": {"name": "other"}}), "another volume"),
    "another claim": (_volume({"persistentVolumeClaim": {"claimName": "other"}}), "another volume"),
    "a folder of the node": (_volume({"hostPath": {"path": "/"}}), "another volume"),
    "a projected token": (
        _volume({"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}),
        "another volume",
    ),
    "another Secret as a variable": (
        _env(secretKeyRef={"name": "other", "key": "a"}),
        "a variable from another Secret",
    ),
    "another key of our Secret": (
        _env(secretKeyRef={"name": "studio", "key": "other"}),
        "a variable from another Secret",
    ),
    "all of a Secret": (
        _container(envFrom=[{"secretRef": {"name": "other"}}]),
        "variables from another Secret",
    ),
    "all of ours": (_container(envFrom=[{"secretRef": {"name": "studio"}}]), "variables from another Secret"),
    "the node's network": (_own(hostNetwork=True), "of the node"),
    "the node's processes": (_own(hostPID=True), "of the node"),
    "a port of the node": (_container(ports=[{"containerPort": 1, "hostPort": 1}]), "of the node"),
    "privileged": (_container(securityContext={"privileged": True}), "privileges"),
    "root": (_own(securityContext={"runAsUser": 0}), "privileges"),
    "a capability": (
        _container(
            securityContext={"allowPrivilegeEscalation": False, "capabilities": {"add": ["SYS_ADMIN"]}}
        ),
        "privileges",
    ),
    "a node": (_own(nodeName="node"), "a node, a priority"),
    "a priority": (_own(priorityClassName="system-node-critical"), "a node, a priority"),
    "a pull secret": (_own(imagePullSecrets=[{"name": "other"}]), "a node, a priority"),
    "the adapters' labels": (
        lambda job: job["spec"]["template"]["metadata"]["labels"].update(
            {"app.kubernetes.io/component": "adapter"}
        ),
        "labels of something else",
    ),
}


@pytest.mark.cluster
def test_the_job_of_a_run_is_admitted(judge: Judge) -> None:
    assert judge.create() == ""


@pytest.mark.cluster
@pytest.mark.parametrize("name", HOSTILE)
def test_any_other_job_is_refused_with_a_reason(judge: Judge, name: str) -> None:
    change, why = HOSTILE[name]
    refusal = judge.create(change)
    assert why in refusal, refusal
    assert "ValidatingAdmissionPolicy" in refusal, refusal


def _patch(judge: Judge, patch: Document) -> str:
    return judge.asked(
        "patch", "deployment", "loop-fitloop-serving", "--type=merge", f"--patch={json.dumps(patch)}"
    )


@pytest.mark.cluster
def test_a_rollout_patch_is_admitted(judge: Judge) -> None:
    annotation = {"fitloop.io/generation": "7"}
    assert _patch(judge, {"spec": {"template": {"metadata": {"annotations": annotation}}}}) == ""


@pytest.mark.cluster
@pytest.mark.parametrize(
    "patch",
    [
        {"spec": {"template": {"spec": {"serviceAccountName": "other"}}}},
        {"spec": {"template": {"spec": {"hostNetwork": True}}}},
        {"spec": {"template": {"spec": {"schedulerName": "other"}}}},
        {"spec": {"template": {"metadata": {"annotations": {"other": "a"}}}}},
        {"spec": {"template": {"metadata": {"labels": {"other": "a"}}}}},
        {"spec": {"replicas": 50}},
        {"metadata": {"annotations": {"other": "a"}}},
    ],
)
def test_any_other_patch_of_predictors_is_refused(judge: Judge, patch: Document) -> None:
    assert "fitloop.io/generation, and nothing else" in _patch(judge, patch)
