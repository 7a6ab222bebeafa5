"""The cluster in KUBECONFIG, used through kubectl and helm, and its environment."""

from __future__ import annotations

import json
import os
import secrets
import shutil
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest

from tests.e2e.bucket import Storage

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "fitloop"


def run(*command: str, seconds: float = 120, text: str | None = None) -> str:
    """Run a command and return its output. Raises AssertionError with its stderr."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class ClusterEnvironment:
    """What end-to-end tests need besides the cluster; each from an environment variable."""

    host: str
    """Address of this machine for pods: FITLOOP_TEST_HOST."""
    ingress: str
    """Address of the ingress controller for this machine: FITLOOP_TEST_INGRESS."""
    images: str
    """Prefix of the images: FITLOOP_TEST_IMAGES, for example fitloop.test."""
    tag: str
    storage: Storage

    @classmethod
    def from_environment(cls) -> ClusterEnvironment:
        """Read the environment, or skip the test if there is no cluster."""
        missing = [
            name
            for name in ("KUBECONFIG", "FITLOOP_TEST_S3", "FITLOOP_TEST_IMAGES")
            if not os.environ.get(name)
        ]
        absent = [name for name in ("kubectl", "helm") if not shutil.which(name)]
        if missing or absent:
            pytest.skip(
                f"no cluster to try it on: {', '.join(missing + absent)} missing (see tests/e2e/README.md)"
            )
        endpoint = os.environ["FITLOOP_TEST_S3"]
        storage = Storage(
            endpoint,
            os.environ["FITLOOP_TEST_S3_KEY"],
            os.environ["FITLOOP_TEST_S3_SECRET"],
            os.environ.get("FITLOOP_TEST_S3_IN_PODS", endpoint),
        )
        return cls(
            os.environ.get("FITLOOP_TEST_HOST") or _address_towards_the_cluster(),
            os.environ.get("FITLOOP_TEST_INGRESS", "http://127.0.0.1:8088"),
            os.environ["FITLOOP_TEST_IMAGES"],
            os.environ.get("FITLOOP_TEST_TAG", "dev"),
            storage,
        )


def _address_towards_the_cluster() -> str:
    """Return the address of this machine that the API server sees; pods of a local cluster reach it as well."""
    server = run("kubectl", "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((urlsplit(server).hostname or "127.0.0.1", 9))
        return str(probe.getsockname()[0])


@dataclass
class Namespace:
    """A namespace for one test that enforces the "restricted" standard. A context manager."""

    name: str = field(default_factory=lambda: f"fitloop-{secrets.token_hex(3)}")

    def __enter__(self) -> Self:
        run("kubectl", "create", "namespace", self.name)
        run("kubectl", "label", "namespace", self.name, "pod-security.kubernetes.io/enforce=restricted")
        return self

    def __exit__(self, *_: object) -> None:
        run("kubectl", "delete", "namespace", self.name, "--wait=true", "--timeout=120s", seconds=150)

    def kubectl(self, *arguments: str, seconds: float = 120, text: str | None = None) -> str:
        """Run kubectl in the namespace."""
        return run("kubectl", "-n", self.name, *arguments, seconds=seconds, text=text)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Run `kubectl get … -o json`."""
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Return all objects of a kind that match the selector."""
        return list(self.get(kind, *(("-l", selector) if selector else ()))["items"])

    def helm(self, *arguments: str, seconds: float = 300) -> str:
        """Run helm in the namespace."""
        return run("helm", "-n", self.name, *arguments, seconds=seconds)

    def describe(self) -> str:
        """Describe objects, events and logs for the report of a failed test."""
        parts = [
            self.kubectl("get", "all,lease,ingress,isvc", "-o", "wide", "--ignore-not-found"),
            self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-4000:],
        ]
        for pod in self.items("pods"):
            name = pod["metadata"]["name"]
            output = subprocess.run(
                ["kubectl", "-n", self.name, "logs", name, "--tail=30"],
                capture_output=True,
                text=True,
                check=False,
            )
            parts.append(f"--- {name}\n{output.stdout}{output.stderr}")
        return "\n".join(parts)
