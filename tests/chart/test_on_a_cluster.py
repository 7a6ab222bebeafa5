"""A real API server accepts every manifest of every profile in a restricted namespace; nothing is created."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chart.rendering import CHART, NEEDED, PROFILES, Document, helm, laid_over, template

pytestmark = pytest.mark.cluster
BESIDE: Document = {
    "name": "beside",
    "image": "example.test/beside",
    "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
}
VARIANTS: dict[str, tuple[str, Document]] = {
    **{profile: (profile, {}) for profile in PROFILES},
    "two pods": ("minikube-cpu", {"trainer": {"pods": 2}}),
    "autoscaling": ("no-kserve", {"predictor": {"autoscaling": {"enabled": True}}}),
    "another scaler": ("minikube-cpu", {"predictor": {"autoscaling": {"external": True}}}),
    "autoscaling by KServe": ("minikube-cpu", {"predictor": {"autoscaling": {"enabled": True}}}),
    "ingress": (
        "minikube-cpu",
        {
            "ingress": {
                "enabled": True,
                "host": "fitloop.example.test",
                "path": "/f",
                "tls": {"enabled": True},
            }
        },
    ),
    "admission policy": ("minikube-cpu", {"admissionPolicy": {"enabled": True}}),
    "all of the user's": (
        "no-kserve",
        {
            one: {
                "initContainers": [{**BESIDE, "name": "before"}],
                "extraContainers": [BESIDE],
                "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["studio.example.test"]}],
                "dnsConfig": {"options": [{"name": "ndots", "value": "2"}]},
            }
            for one in ("adapter", "predictor", "trainer")
        },
    ),
    "egress": (
        "airgapped",
        {"networkPolicy": {"egressPorts": [443], "egressTo": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}},
    ),
    "longest name": ("minikube-cpu", {"fullnameOverride": "a" * 60}),
}


def kubectl(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """Create a restricted namespace for this module."""
    if not os.environ.get("KUBECONFIG") or not shutil.which("kubectl"):
        pytest.skip("no cluster to ask: set KUBECONFIG, and put kubectl on PATH (see tests/e2e/README.md)")
    name = f"fitloop-chart-{secrets.token_hex(3)}"
    meta = {"name": name, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}
    made = kubectl(
        "create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": meta})
    )
    assert made.returncode == 0, made.stderr
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_api_server_accepts_every_variant(namespace: str, variant: str) -> None:
    """Pods as well, each created directly, so that the standard is enforced instead of warned about."""
    profile, values = VARIANTS[variant]
    rendered = template(values, profile, f"--namespace={namespace}")
    job = rendered.job
    job["metadata"]["name"] = "loop-12-3"
    pods = [_alone(owner, spec) for owner, spec in rendered.pods()]
    objects = yaml.safe_dump_all([*rendered.objects, job, *pods])
    taken = kubectl("-n", namespace, "apply", "--dry-run=server", "-f", "-", text=objects)
    assert taken.returncode == 0, taken.stderr
    assert not taken.stderr, f"with a warning: {taken.stderr}"


def test_generated_token_survives_upgrades_that_restart_pods(namespace: str, tmp_path: Path) -> None:
    """The predictors' token survives upgrades, and only a new password restarts pods."""
    values = laid_over(NEEDED, {"auth": {"existingSecret": "", "username": "ann", "password": "one"}})
    quiet: Document = {"kserve": {"enabled": False}, "adapter": {"replicas": 1}, "predictor": {"replicas": 1}}

    def apply(verb: str, password: str) -> tuple[str, str]:
        given = laid_over(values, {**quiet, "auth": {"password": password}})
        (tmp_path / "values.yaml").write_text(yaml.safe_dump(given))
        profile = CHART / "profiles" / "minikube-cpu.yaml"
        files = ("-f", str(profile), "-f", str(tmp_path / "values.yaml"))
        done = subprocess.run(
            [helm(), "-n", namespace, verb, "kept", str(CHART), *files],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert password not in done.stdout
        found = [
            json.loads(kubectl("-n", namespace, "get", *what, "-o", "json").stdout)
            for what in (("secret", "kept-fitloop-predictor-token"), ("deployment", "kept-fitloop"))
        ]
        annotations = found[1]["spec"]["template"]["metadata"]["annotations"]
        return found[0]["data"]["FITLOOP_PREDICTOR_TOKEN"], annotations["checksum/config"]

    first = apply("install", "one-password")
    assert apply("upgrade", "one-password") == first
    token, changed = apply("upgrade", "another-password")
    assert token == first[0]
    assert changed != first[1]
    assert apply("upgrade", "another-password") == (token, changed)


def _alone(owner: str, spec: Document) -> Document:
    known = {
        "minReplicas",
        "maxReplicas",
        "scaleMetric",
        "scaleTarget",
        "deploymentStrategy",
        "labels",
        "annotations",
    }
    own = {key: value for key, value in spec.items() if key not in {*known, "serviceAccountName"}}
    name = owner.replace("/", "-").lower()[:50]
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"{name}-alone"}, "spec": own}
