"""A Helm release of the chart, and its API through the ingress."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
import yaml

from tests.e2e.bucket import Bucket
from tests.e2e.kubernetes import CHART, ClusterEnvironment, Namespace
from tests.e2e.load import Load
from tests.support.waiting import eventually


class HasProjectKey(Protocol):
    """A project of Label Studio."""

    @property
    def key(self) -> str:
        """`<id>-<created>`."""
        ...


PROCESSES = ("adapter", "predictor", "trainer")
SECRET_PATH = "a-path-that-nobody-guesses"
"""Admits Label Studio; pages and /api need the password."""
PASSWORD = ("ann", "a-password-that-nobody-guesses")


@dataclass
class Release:
    """One `helm install`."""

    around: ClusterEnvironment
    namespace: Namespace
    bucket: Bucket
    studio_port: int
    token: str
    name: str = "loop"
    profile: str = "minikube-cpu"
    base_model: str = ""
    every_n_updates: int = 10
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """The backend's URL in Label Studio. The ingress matches any host name, so only one release can exist at a time."""
        return f"{self.around.ingress}/{SECRET_PATH}"

    def install(self, *more: str) -> None:
        """Create Secrets, then run `helm install`."""
        self._make_secrets()
        self._helm("install", *more)

    def upgrade(self, values: Mapping[str, Any], *more: str) -> None:
        """Run `helm upgrade` with changed values, and wait until a new pod leads."""
        self.values = merged(self.values, values)
        self._helm("upgrade", *more)
        eventually(self.leader, 60, what="one of the new adapters leads")

    def uninstall(self) -> None:
        self.namespace.helm("uninstall", self.name, "--wait")

    def rendered(self, values: Mapping[str, Any], *templates: str) -> list[dict[str, Any]]:
        """Render these templates with more values, for kinds that the cluster may not know."""
        known = "--api-versions=serving.kserve.io/v1beta1/InferenceService"
        only = (argument for one in templates for argument in ("-s", f"templates/{one}"))
        text = self._chart("template", merged(self.values, values), known, *only)
        return [found for found in yaml.safe_load_all(text) if found]

    def _helm(self, verb: str, *more: str) -> None:
        self._chart(verb, self.values, "--wait", "--timeout", "4m", *more)

    def _chart(self, verb: str, values: Mapping[str, Any], *more: str) -> str:
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(merged(self._own_values(), values), file)
            file.flush()
            profile = str(CHART / "profiles" / f"{self.profile}.yaml")
            return self.namespace.helm(verb, self.name, str(CHART), "-f", profile, "-f", file.name, *more)

    def _own_values(self) -> dict[str, Any]:
        image = {"registry": self.around.images, "tag": self.around.tag, "pullPolicy": "IfNotPresent"}
        return {
            "image": image,
            "labelStudio": {
                "url": f"http://{self.around.host}:{self.studio_port}",
                "existingSecret": f"{self.name}-label-studio",
            },
            "store": {
                "url": self.bucket.url,
                "endpoint": self.around.storage.endpoint_in_pods,
                "region": "us-east-1",
                **{process: {"existingSecret": f"{self.name}-s3-{process}"} for process in PROCESSES},
            },
            "auth": {
                "existingSecret": f"{self.name}-auth",
                "existingSecretKeys": {"username": "username", "password": "password", "secretPath": "path"},
            },
            "training": {"baseModel": self.base_model, "coldStart": False},
            "ingress": {"enabled": True},
        }

    def _make_secrets(self) -> None:
        self._make_secret(f"{self.name}-label-studio", {"LABEL_STUDIO_API_KEY": self.token})
        user, password = PASSWORD
        self._make_secret(f"{self.name}-auth", {"username": user, "password": password, "path": SECRET_PATH})
        for process in PROCESSES:
            keys = {
                "AWS_ACCESS_KEY_ID": self.bucket.user(process),
                "AWS_SECRET_ACCESS_KEY": self.bucket.secret(process),
            }
            self._make_secret(f"{self.name}-s3-{process}", keys)

    def _make_secret(self, name: str, data: Mapping[str, str]) -> None:
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": dict(data)}
        self.namespace.kubectl("apply", "-f", "-", text=json.dumps(secret))

    # ------------------------------------------------------------------------------------------- through the ingress
    def client(self) -> httpx.Client:
        """Return a client of the ingress with the password."""
        return httpx.Client(base_url=self.around.ingress, auth=PASSWORD, timeout=30)

    def state(self, project: int) -> dict[str, Any]:
        """Return the project's state from /api; {} while it is unknown."""
        with self.client() as client:
            answer = client.get(f"/api/projects/{project}")
        return dict(answer.json()) if answer.status_code == httpx.codes.OK else {}

    def active_run(self) -> str:
        """Return the active run of any project, or ""."""
        with self.client() as client:
            projects = client.get("/api/projects").json().get("projects", [])
        return next((str(row["active"]["run"]) for row in projects if row.get("active")), "")

    def send_command(self, project: int, action: str, **body: Any) -> None:
        with self.client() as client:
            client.post(f"/api/projects/{project}/{action}", json=body).raise_for_status()

    def setup_version(self, project: int) -> str:
        """Return the model version that /setup answers."""
        with self.client() as client:
            answer = client.post("/setup", json={"project": f"{project}.1"})
        return str(answer.json().get("model_version")) if answer.is_success else ""

    def served(self, project: int, other_than: str = "untrained", seconds: float = 180) -> str:
        """Wait until /setup answers a version other than `other_than` and return it."""

        def version() -> str:
            found = self.setup_version(project)
            return found if found not in {"", "untrained", other_than} else ""

        return eventually(version, seconds, what=f"a version other than {other_than}: {self.state(project)}")

    def load(self, labelled: HasProjectKey) -> Load:
        """Send requests about the project as Label Studio does, five a second."""
        texts = ("Where is my order?", "I want my invoice, please.")
        return Load(self.url, labelled.key.replace("-", "."), texts)

    # ------------------------------------------------------------------------------------------------------ its pods
    def pods(self, component: str) -> list[dict[str, Any]]:
        """Return the pods of adapter, predictor or trainer that are not terminating."""
        selector = f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component={component}"
        return [
            pod
            for pod in self.namespace.items("pods", selector)
            if "deletionTimestamp" not in pod["metadata"]
        ]

    def leader(self) -> str:
        """Return the pod that holds the Lease."""
        holder = str(self.namespace.get("lease", self.fullname)["spec"].get("holderIdentity") or "")
        return next(
            (name for pod in self.pods("adapter") if holder.startswith(name := pod["metadata"]["name"])), ""
        )

    @property
    def fullname(self) -> str:
        """Name prefix of its objects."""
        return f"{self.name}-fitloop"


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merge `over` into `base` as helm merges values files."""
    found = dict(base)
    for key, value in over.items():
        known = found.get(key)
        found[key] = (
            merged(known, value) if isinstance(known, Mapping) and isinstance(value, Mapping) else value
        )
    return found


def seconds_until(seconds: float, look: Callable[[], object], what: str) -> float:
    """Return how many seconds it took until `look` was truthy."""
    began = time.monotonic()
    eventually(look, seconds, what=what)
    return time.monotonic() - began
