"""A namespace of a test's own, on the cluster that KUBECONFIG points at."""

from __future__ import annotations

import copy
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest
from kubernetes import client

from services.cluster.client import Document, Kube, connect
from tests.support.jobs import MANIFEST

TEST_IMAGES = os.environ.get("FITLOOP_TEST_IMAGES", "")
_WHY = "no cluster to try it on: KUBECONFIG and FITLOOP_TEST_IMAGES name one, and images (see tests/e2e/README.md)"
_SKIP = pytest.mark.skipif(not (os.environ.get("KUBECONFIG") and TEST_IMAGES), reason=_WHY)
MARKS = (pytest.mark.cluster, _SKIP)
"""For the `pytestmark` of a module whose every test needs a cluster."""
SCRIPT = """
import os, signal, sys
words = os.environ["BEHAVIOUR"].split()
signal.signal(signal.SIGTERM, signal.SIG_IGN if words[0] == "stubborn" else lambda *_: sys.exit(75))
if words[0] == "exit":
    sys.exit(int(words[1]))
while True:
    signal.pause()
"""


def needs_cluster(test: Any) -> Any:
    """Runs on a real cluster; visibly skipped elsewhere."""
    return pytest.mark.cluster(_SKIP(test))


@dataclass(frozen=True, slots=True)
class Namespace:
    """It takes only pods of the "restricted" standard."""

    name: str
    kube: Kube
    api: client.ApiClient


@contextmanager
def temporary_namespace() -> Iterator[Namespace]:
    """A namespace that is gone, or about to go, afterwards."""
    name = f"fitloop-jobs-{secrets.token_hex(3)}"
    kube = connect(name)
    api = kube._core.api_client
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    core: Any = client.CoreV1Api(api)  # it takes dicts as well
    core.create_namespace({"metadata": {"name": name, "labels": labels}})
    try:
        yield Namespace(name, kube, api)
    finally:
        core.delete_namespace(name)


def build_manifest(behaviour: str = "exit 0", **pod: Any) -> Document:
    """A Job whose trainer is a few lines of Python, on a processor; `pod` is put into the pod's spec."""
    made = copy.deepcopy(MANIFEST)
    made["spec"]["backoffLimit"] = 1
    spec = made["spec"]["template"]["spec"]
    (trainer,) = spec["containers"]
    trainer |= {
        "image": f"{TEST_IMAGES}/adapter:{os.environ.get('FITLOOP_TEST_TAG', 'dev')}",
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", SCRIPT],
        "env": [{"name": "BEHAVIOUR", "value": behaviour}],
        "resources": {"requests": {"cpu": "10m"}},
    }
    spec |= {"terminationGracePeriodSeconds": 2, **pod}
    return made
