"""A real API server takes every manifest of every profile, in a namespace of the restricted standard; nothing is created."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Iterator

import pytest
import yaml

from tests.chart.rendering import PROFILES, Document, template

pytestmark = pytest.mark.cluster
VARIANTS: dict[str, tuple[str, Document]] = {
    **{profile: (profile, {}) for profile in PROFILES},
    "two pods": ("minikube-cpu", {"trainer": {"pods": 2}}),
    "autoscaling": ("no-kserve", {"predictor": {"autoscaling": {"enabled": True}}}),
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
    "longest name": ("minikube-cpu", {"fullnameOverride": "a" * 60}),
}


def kubectl(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(["kubectl", *arguments], input=text, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """Of this test's own, and restricted."""
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
def test_the_api_server_takes_it(namespace: str, variant: str) -> None:
    """Pods, too: each as one that is created by itself, so that the standard is enforced and not only warned of."""
    profile, values = VARIANTS[variant]
    rendered = template(values, profile, f"--namespace={namespace}")
    job = rendered.job
    job["metadata"]["name"] = "loop-12-3"
    pods = [_alone(owner, spec) for owner, spec in rendered.pods()]
    objects = yaml.safe_dump_all([*rendered.objects, job, *pods])
    taken = kubectl("-n", namespace, "apply", "--dry-run=server", "-f", "-", text=objects)
    assert taken.returncode == 0, taken.stderr
    assert not taken.stderr, f"with a warning: {taken.stderr}"


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
