"""The cluster that KUBECONFIG points at, by kubectl and helm, and what stands around it."""

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
    """A command's output. Raises AssertionError with what it said on stderr."""
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout


@dataclass(frozen=True, slots=True)
class ClusterEnvironment:
    """What a test of the whole needs beside the cluster; each by an environment variable."""

    host: str
    """This machine as pods reach it: FITLOOP_TEST_HOST."""
    ingress: str
    """The ingress controller as this machine reaches it: FITLOOP_TEST_INGRESS."""
    images: str
    """Prefix of the images: FITLOOP_TEST_IMAGES, as fitloop.test."""
    tag: str
    storage: Storage

    @classmethod
    def from_environment(cls) -> ClusterEnvironment:
        """Skips the test, visibly, where there is no cluster to try it on."""
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
    """The address of this machine that the API server sees; on a cluster of this machine's own, pods reach it too."""
    server = run("kubectl", "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((urlsplit(server).hostname or "127.0.0.1", 9))
        return str(probe.getsockname()[0])


@dataclass
class Namespace:
    """A namespace of a test's own that takes only pods of the "restricted" standard. A context manager."""

    name: str = field(default_factory=lambda: f"fitloop-{secrets.token_hex(3)}")

    def __enter__(self) -> Self:
        run("kubectl", "create", "namespace", self.name)
        run("kubectl", "label", "namespace", self.name, "pod-security.kubernetes.io/enforce=restricted")
        return self

    def __exit__(self, *_: object) -> None:
        run("kubectl", "delete", "namespace", self.name, "--wait=true", "--timeout=120s", seconds=150)

    def kubectl(self, *arguments: str, seconds: float = 120, text: str | None = None) -> str:
        """kubectl within it."""
        return run("kubectl", "-n", self.name, *arguments, seconds=seconds, text=text)

    def get(self, *arguments: str) -> dict[str, Any]:
        """`kubectl get … -o json`."""
        return dict(json.loads(self.kubectl("get", *arguments, "-o", "json")))

    def items(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """All objects of a kind that the labels choose."""
        return list(self.get(kind, *(("-l", selector) if selector else ()))["items"])

    def helm(self, *arguments: str, seconds: float = 300) -> str:
        """helm within it."""
        return run("helm", "-n", self.name, *arguments, seconds=seconds)

    def describe(self) -> str:
        """What is to be seen in it, for a failed test's report."""
        parts = [
            self.kubectl("get", "all,lease,ingress,isvc", "-o", "wide", "--ignore-not-found"),
            self.kubectl("get", "events", "--sort-by=.lastTimestamp")[-4000:],
        ]
        for pod in self.items("pods"):
            name = pod["metadata"]["name"]
            said = subprocess.run(
                ["kubectl", "-n", self.name, "logs", name, "--tail=30"],
                capture_output=True,
                text=True,
                check=False,
            )
            parts.append(f"--- {name}\n{said.stdout}{said.stderr}")
        return "\n".join(parts)
